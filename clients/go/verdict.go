package hook

// What a filter answers, and where a transaction shall go out. Checked when the function has returned: what the proxy
// would refuse is an error in the hook's own log, with its reason.

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"

	"warp.example/hook/hookv1"
)

const replyTextLimit = 400

// Verdict is what a filter answers: made by Relay, Reject, AddHeader, Replace or Discard. The zero Verdict is none, and a
// failure.
type Verdict struct {
	response *hookv1.BeforeRelayResponse
}

// Relay passes the message on as it is.
func Relay() Verdict {
	return verdict(&hookv1.BeforeRelayResponse{
		Verdict: &hookv1.BeforeRelayResponse_Relay{Relay: &hookv1.Relay{}},
	})
}

// Reject refuses the message: the client gets "CODE ENHANCED TEXT". The code is 4xx or 5xx, but not 421 or 521 (those speak
// of the connection); enhanced (RFC 3463) begins with the same digit, and "" stands for x.7.1; the text is 1 to 400
// printable US-ASCII octets.
func Reject(code int, enhanced, text string) Verdict {
	return verdict(&hookv1.BeforeRelayResponse{
		Verdict: &hookv1.BeforeRelayResponse_Reject{Reject: reply(code, enhanced, text)},
	})
}

// AddHeader passes the message on with its header edited: Insert, Add, Set and Remove, applied in order.
func AddHeader(edits ...Edit) Verdict {
	made := make([]*hookv1.HeaderEdit, len(edits))
	for i, edit := range edits {
		made[i] = edit.edit
	}
	return verdict(&hookv1.BeforeRelayResponse{
		Verdict: &hookv1.BeforeRelayResponse_AddHeader{AddHeader: &hookv1.AddHeader{Edits: made}},
	})
}

// Replace sends this message instead: RFC 5322 octets with CRLF lines, not dot-stuffed, without the final dot.
func Replace(message []byte) Verdict {
	return verdict(&hookv1.BeforeRelayResponse{
		Verdict: &hookv1.BeforeRelayResponse_Replace{Replace: &hookv1.Replace{Message: message}},
	})
}

// Discard answers 250 and throws the message away: only where Envelope.DiscardAllowed says so, otherwise it is a failure.
func Discard() Verdict {
	return verdict(&hookv1.BeforeRelayResponse{
		Verdict: &hookv1.BeforeRelayResponse_Discard{Discard: &hookv1.Discard{}},
	})
}

// WithScore gives the verdict a score, for the proxy's events and reputation. The receiver is not changed.
func (v Verdict) WithScore(score float64) Verdict {
	return v.with(func(r *hookv1.BeforeRelayResponse) { r.Score = score })
}

// WithTags adds tags, for the proxy's events.
func (v Verdict) WithTags(tags ...string) Verdict {
	return v.with(func(r *hookv1.BeforeRelayResponse) { r.Tags = append(r.Tags[:len(r.Tags):len(r.Tags)], tags...) })
}

// WithNote gives a note, for the proxy's log and events. The peer never sees it.
func (v Verdict) WithNote(note string) Verdict {
	return v.with(func(r *hookv1.BeforeRelayResponse) { r.Note = note })
}

// Response gives the verdict as it goes to the proxy, or why the proxy would refuse it.
func (v Verdict) Response() (*hookv1.BeforeRelayResponse, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	return v.response, nil
}

// Response gives the route as it goes to the proxy, or why the proxy would refuse it.
func (r Route) Response() (*hookv1.SelectRouteResponse, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.response == nil {
		return &hookv1.SelectRouteResponse{}, nil
	}
	return r.response, nil
}

func verdict(response *hookv1.BeforeRelayResponse) Verdict { return Verdict{response} }

func (v Verdict) with(change func(*hookv1.BeforeRelayResponse)) Verdict {
	if v.response == nil {
		return v
	}
	changed := &hookv1.BeforeRelayResponse{
		Verdict: v.response.Verdict,
		Score:   v.response.Score,
		Tags:    v.response.Tags,
		Note:    v.response.Note,
	}
	change(changed)
	return Verdict{changed}
}

// Edit is one change of a header section.
type Edit struct {
	edit *hookv1.HeaderEdit
}

// Insert puts a field on top of the header (this alone leaves a DKIM signature valid). The value is unfolded: the proxy
// folds.
func Insert(name, value string) Edit {
	return Edit{&hookv1.HeaderEdit{Edit: &hookv1.HeaderEdit_Insert{Insert: &hookv1.Field{Name: name, Value: value}}}}
}

// Add puts a field at the end of the header section.
func Add(name, value string) Edit {
	return Edit{&hookv1.HeaderEdit{Edit: &hookv1.HeaderEdit_Add{Add: &hookv1.Field{Name: name, Value: value}}}}
}

// Set gives a field another value: the occurrence-th from the top, 0 for all of them; where there is none, it is added.
func Set(name, value string, occurrence uint32) Edit {
	field := &hookv1.SetField{Name: name, Value: value, Occurrence: occurrence}
	return Edit{&hookv1.HeaderEdit{Edit: &hookv1.HeaderEdit_Set{Set: field}}}
}

// Remove takes a field out: the occurrence-th from the top, 0 for all of them.
func Remove(name string, occurrence uint32) Edit {
	field := &hookv1.RemoveField{Name: name, Occurrence: occurrence}
	return Edit{&hookv1.HeaderEdit{Edit: &hookv1.HeaderEdit_Remove{Remove: field}}}
}

// Route is where a transaction goes out: made by UsePool, UseSourceIP or Refuse. The zero Route leaves it to the proxy's
// rules.
type Route struct {
	response *hookv1.SelectRouteResponse
}

// UsePool sends from an address of this pool: one of the request's pools.
func UsePool(name string) Route {
	return Route{&hookv1.SelectRouteResponse{Route: &hookv1.SelectRouteResponse_Pool{Pool: name}}}
}

// UseSourceIP sends from this address, which must be one of the proxy's.
func UseSourceIP(ip string) Route {
	return Route{&hookv1.SelectRouteResponse{Route: &hookv1.SelectRouteResponse_SourceIp{SourceIp: ip}}}
}

// Refuse does not send this transaction at all; the limits are those of Reject.
func Refuse(code int, enhanced, text string) Route {
	return Route{&hookv1.SelectRouteResponse{Route: &hookv1.SelectRouteResponse_Refuse{Refuse: reply(code, enhanced, text)}}}
}

func reply(code int, enhanced, text string) *hookv1.Reject {
	if enhanced == "" {
		enhanced = fmt.Sprintf("%d.7.1", code/100)
	}
	return &hookv1.Reject{Code: uint32(max(code, 0)), EnhancedCode: enhanced, Text: text}
}

func (v Verdict) check() error {
	if v.response == nil {
		return errors.New("the filter gave no verdict (to let a message pass, it returns hook.Relay())")
	}
	if math.IsNaN(v.response.Score) || math.IsInf(v.response.Score, 0) {
		return fmt.Errorf("a score is a finite number, not %v", v.response.Score)
	}
	for _, text := range append([]string{v.response.Note}, v.response.Tags...) {
		if err := checkText(text); err != nil {
			return err
		}
	}
	switch arm := v.response.Verdict.(type) {
	case *hookv1.BeforeRelayResponse_Reject:
		return checkReply(arm.Reject)
	case *hookv1.BeforeRelayResponse_AddHeader:
		return checkEdits(arm.AddHeader.Edits)
	case *hookv1.BeforeRelayResponse_Replace:
		return checkLines(arm.Replace.Message)
	}
	return nil
}

func (r Route) check() error {
	if r.response == nil {
		return nil
	}
	switch arm := r.response.Route.(type) {
	case *hookv1.SelectRouteResponse_Refuse:
		return checkReply(arm.Refuse)
	case *hookv1.SelectRouteResponse_Pool:
		if arm.Pool == "" {
			return errors.New("a pool has a name; to leave the choice to the proxy's rules, return the zero Route")
		}
	case *hookv1.SelectRouteResponse_SourceIp:
		if arm.SourceIp == "" {
			return errors.New("a source IP is an address; to leave the choice to the proxy's rules, return the zero Route")
		}
	}
	return nil
}

func checkReply(reject *hookv1.Reject) error {
	code := reject.Code
	if code < 400 || code > 599 || code == 421 || code == 521 {
		return fmt.Errorf("a rejection has a code of 4xx or 5xx, but not 421 or 521; this is %d", code)
	}
	if !isEnhancedCode(reject.EnhancedCode, code/100) {
		return fmt.Errorf("%q is no enhanced status code for %d (RFC 3463: %d.x.y)", reject.EnhancedCode, code, code/100)
	}
	if reject.Text == "" || len(reject.Text) > replyTextLimit {
		return fmt.Errorf("the text of a reply has 1 to %d octets; this has %d", replyTextLimit, len(reject.Text))
	}
	for _, octet := range []byte(reject.Text) {
		if octet < ' ' || octet > '~' {
			return fmt.Errorf("the text of a reply is printable US-ASCII; this is %.80q", reject.Text)
		}
	}
	return nil
}

func isEnhancedCode(text string, class uint32) bool {
	parts := strings.Split(text, ".")
	if len(parts) != 3 || parts[0] != fmt.Sprint(class) {
		return false
	}
	for _, part := range parts[1:] {
		if len(part) < 1 || len(part) > 3 || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}

func checkEdits(edits []*hookv1.HeaderEdit) error {
	if len(edits) == 0 {
		return errors.New("AddHeader needs at least one edit; to change nothing, return Relay()")
	}
	for _, edit := range edits {
		var name, value string
		switch arm := edit.GetEdit().(type) {
		case *hookv1.HeaderEdit_Insert:
			name, value = arm.Insert.Name, arm.Insert.Value
		case *hookv1.HeaderEdit_Add:
			name, value = arm.Add.Name, arm.Add.Value
		case *hookv1.HeaderEdit_Set:
			name, value = arm.Set.Name, arm.Set.Value
		case *hookv1.HeaderEdit_Remove:
			name = arm.Remove.Name
		default:
			return errors.New("an edit is made by Insert, Add, Set or Remove")
		}
		if err := checkField(name, value); err != nil {
			return err
		}
	}
	return nil
}

func checkField(name, value string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		return fmt.Errorf("%q is no field name (RFC 5322: printable US-ASCII without colon and space)", name)
	}
	if strings.ContainsAny(value, "\r\n\x00") {
		return fmt.Errorf("a field's value has no CR, LF or NUL (the proxy folds): %.80q", value)
	}
	return checkText(value)
}

func checkText(text string) error {
	if strings.ToValidUTF8(text, "") != text {
		return fmt.Errorf("text is UTF-8; this is not: %.80q", text)
	}
	return nil
}

func checkLines(message []byte) error {
	for rest := message; ; {
		at := bytes.IndexAny(rest, "\r\n")
		if at < 0 {
			return nil
		}
		if !bytes.HasPrefix(rest[at:], []byte("\r\n")) {
			return errors.New("a replacement has CRLF line ends only; this one has a bare CR or LF")
		}
		rest = rest[at+2:]
	}
}
