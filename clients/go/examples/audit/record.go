package main

import (
	"strings"
	"time"

	"warp.example/hook/hookv1"
)

// record is one line. Octets of a peer are text where they are UTF-8, with U+FFFD where they are not.
type record struct {
	ID           string `json:"id"`
	At           string `json:"at"`
	ConnectionID string `json:"connection_id"`
	Kind         string `json:"kind"`
	*transaction
	*gap
	*notice
}

type transaction struct {
	Client      string      `json:"client"`
	Destination string      `json:"destination"`
	SourceIP    string      `json:"source_ip"`
	From        string      `json:"from"`
	To          []recipient `json:"to"`
	Outcome     string      `json:"outcome"`
	Reply       string      `json:"reply"`
	Octets      uint64      `json:"octets"`
	MessageID   string      `json:"message_id"`
	Filters     []filtered  `json:"filters"`
}

type recipient struct {
	Address string `json:"address"`
	Code    uint32 `json:"code"`
	Class   string `json:"class"`
}

type filtered struct {
	Hook    string  `json:"hook"`
	Verdict string  `json:"verdict"`
	Score   float64 `json:"score"`
	Failure string  `json:"failure"`
}

type gap struct {
	FirstSequence uint64 `json:"first_sequence"`
	Count         uint64 `json:"count"`
	Reason        string `json:"reason"`
}

type notice struct {
	Code   string            `json:"code"`
	Text   string            `json:"text"`
	Fields map[string]string `json:"fields"`
}

func describe(event *hookv1.Event) record {
	line := record{
		ID:           event.GetId(),
		At:           event.GetOccurredAt().AsTime().Format(time.RFC3339Nano),
		ConnectionID: event.GetConnectionId(),
	}
	switch kind := event.GetKind().(type) {
	case *hookv1.Event_AfterTransaction:
		line.Kind, line.transaction = "after_transaction", describeTransaction(kind.AfterTransaction)
	case *hookv1.Event_Gap:
		line.Kind = "gap"
		line.gap = &gap{kind.Gap.GetFirstSequence(), kind.Gap.GetCount(), kind.Gap.GetReason()}
	case *hookv1.Event_Notice:
		line.Kind = "notice"
		line.notice = &notice{kind.Notice.GetCode(), kind.Notice.GetText(), kind.Notice.GetFields()}
	case *hookv1.Event_AfterComm:
		line.Kind = "after_comm"
	case *hookv1.Event_AfterConn:
		line.Kind = "after_conn"
	}
	return line
}

func describeTransaction(done *hookv1.AfterTransaction) *transaction {
	made := &transaction{
		Client:      done.GetSession().GetClient().GetIp(),
		Destination: done.GetSession().GetDestination().GetIp(),
		SourceIP:    done.GetSession().GetRoute().GetSourceIp(),
		From:        done.GetMailFrom().GetAddress(),
		To:          []recipient{},
		Outcome:     strings.ToLower(strings.TrimPrefix(done.GetOutcome().String(), "OUTCOME_")),
		Reply:       text(done.GetFinalReply().GetText()),
		Octets:      done.GetMessageOctets(),
		MessageID:   text(done.GetMessageId()),
		Filters:     []filtered{},
	}
	for _, one := range done.GetRecipients() {
		reply := one.GetFinalReply()
		made.To = append(made.To, recipient{one.GetAddress().GetAddress(), reply.GetCode(), reply.GetReplyClass()})
	}
	for _, one := range done.GetFilters() {
		made.Filters = append(made.Filters, filtered{one.GetHook(), one.GetVerdict(), one.GetScore(), one.GetFailure()})
	}
	return made
}

func text(octets []byte) string { return strings.ToValidUTF8(string(octets), "\ufffd") }
