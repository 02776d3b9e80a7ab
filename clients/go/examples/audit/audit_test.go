package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"warp.example/hook/hooktest"
	"warp.example/hook/hookv1"
)

func batch(first, last uint64) *hookv1.ObserveRequest {
	request := &hookv1.ObserveRequest{Source: &hookv1.Source{Epoch: "E1"}}
	for sequence := first; sequence <= last; sequence++ {
		request.Events = append(request.Events, &hookv1.Event{
			Id:       fmt.Sprintf("ID%d", sequence),
			Sequence: sequence,
			Kind:     &hookv1.Event_AfterTransaction{AfterTransaction: &hookv1.AfterTransaction{TransactionId: "T1"}},
		})
	}
	return request
}

// acknowledged sends batches, half-closes, and gives the last acknowledgement.
func acknowledged(t *testing.T, connection *grpc.ClientConn, requests ...*hookv1.ObserveRequest) (last uint64) {
	t.Helper()
	stream, err := hookv1.NewHookServiceClient(connection).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range requests {
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			return last
		}
		if err != nil {
			t.Fatal(err)
		}
		last = answer.AckedSequence
	}
}

func open(t *testing.T, path string) *auditLog {
	t.Helper()
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func ids(t *testing.T, path string) []string {
	t.Helper()
	octets, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(octets)) {
		var one struct{ ID string }
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		found = append(found, one.ID)
	}
	return found
}

func TestWritesEachEventOnceAlsoOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log := open(t, path)
	connection := hooktest.Dial(t, server(log))
	if last := acknowledged(t, connection, batch(1, 2), batch(3, 3)); last != 3 {
		t.Error(last)
	}
	if last := acknowledged(t, connection, batch(2, 4)); last != 4 { // sent again after a reconnect
		t.Error(last)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	log.Close()
	cut, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cut.WriteString(`{"id":"ID5","at":"20`); err != nil { // the machine died here
		t.Fatal(err)
	}
	cut.Close()
	log = open(t, path)
	defer log.Close()
	if last := acknowledged(t, hooktest.Dial(t, server(log)), batch(4, 6)); last != 6 {
		t.Error(last)
	}
	if got := strings.Join(ids(t, path), " "); got != "ID1 ID2 ID3 ID4 ID5 ID6" {
		t.Error(got)
	}
}

func TestStreamsOfTwoWorkersShareTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log := open(t, path)
	defer log.Close()
	connection := hooktest.Dial(t, server(log))
	var workers sync.WaitGroup
	for _, start := range []uint64{1, 501} {
		workers.Go(func() {
			for first := start; first < start+1000; first += 50 {
				acknowledged(t, connection, batch(first, first+49))
			}
		})
	}
	workers.Wait()
	seen := map[string]bool{}
	for _, id := range ids(t, path) {
		if seen[id] {
			t.Error("twice:", id)
		}
		seen[id] = true
	}
	if len(seen) != 1500 {
		t.Error(len(seen))
	}
}

func TestAcknowledgesNothingThatItCouldNotStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log := open(t, path)
	if _, err := log.Append(batch(1, 1).Events); err != nil {
		t.Fatal(err)
	}
	writable := log.file
	broken, err := os.Open(path) // read-only: each write fails
	if err != nil {
		t.Fatal(err)
	}
	log.file = broken
	if _, err := log.Append(batch(1, 2).Events); err == nil {
		t.Error("stored in a file that takes nothing")
	}
	broken.Close()
	log.file = writable
	if count, err := log.Append(batch(1, 2).Events); count != 1 || err != nil {
		t.Error(count, err)
	}
	log.Close()
	if got := strings.Join(ids(t, path), " "); got != "ID1 ID2" {
		t.Error(got)
	}
}

func TestTheFileBelongsToOneProcessAndIsAnAuditLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log := open(t, path)
	if _, err := openLog(path); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Error(err)
	}
	log.Close()
	other := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(other, []byte("dear diary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(other); err == nil || !strings.Contains(err.Error(), "no line of an audit log") {
		t.Error(err)
	}
	if octets, _ := os.ReadFile(other); string(octets) != "dear diary\n" {
		t.Error("somebody's file was changed")
	}
}

func TestLinesAreJSONWhateverTheOctets(t *testing.T) {
	event := &hookv1.Event{Id: "I", Kind: &hookv1.Event_AfterTransaction{AfterTransaction: &hookv1.AfterTransaction{
		MailFrom:   &hookv1.Address{Address: "a\ufffd@b"},
		Recipients: []*hookv1.Recipient{{Address: &hookv1.Address{Address: "c@d"}, FinalReply: &hookv1.Reply{Code: 250, ReplyClass: "accepted"}}},
		FinalReply: &hookv1.Reply{Text: []byte("250 \"ok\"\r\n\xff\x00")},
		MessageId:  []byte("<\xc3\x28@x>"),
		Outcome:    hookv1.Outcome_OUTCOME_ACCEPTED,
		Filters:    []*hookv1.FilterOutcome{{Hook: "dlp", Verdict: "relay", Score: 1.5}},
	}}}
	octets, err := json.Marshal(describe(event))
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal(octets, &line); err != nil || strings.Contains(string(octets), "\n") {
		t.Fatal(string(octets), err)
	}
	if line["outcome"] != "accepted" || line["reply"] != "250 \"ok\"\r\n\ufffd\x00" || line["message_id"] != "<\ufffd(@x>" {
		t.Error(line)
	}
	if fmt.Sprint(line["to"]) != "[map[address:c@d class:accepted code:250]]" {
		t.Error(line["to"])
	}
	octets, err = json.Marshal(describe(&hookv1.Event{Id: "G", Kind: &hookv1.Event_Gap{Gap: &hookv1.Gap{FirstSequence: 3, Count: 7, Reason: "full"}}}))
	if err != nil || !strings.Contains(string(octets), `"kind":"gap","first_sequence":3,"count":7,"reason":"full"`) {
		t.Error(string(octets), err)
	}
}

func TestRemembersABoundedNumberOfIDs(t *testing.T) {
	ids := newMemory(10)
	for n := range 30 {
		ids.add(fmt.Sprint(n))
	}
	if len(ids.known) != 10 || ids.has("19") || !ids.has("20") || !ids.has("29") {
		t.Error(len(ids.known))
	}
}
