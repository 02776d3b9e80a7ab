package main

import (
	"slices"
	"strings"
	"testing"

	"warp.example/hook"
	"warp.example/hook/hooktest"
	"warp.example/hook/hookv1"
)

func TestReplacesTheScoreWithItsOwn(t *testing.T) {
	connection := hooktest.Dial(t, server())
	description, err := hookv1.NewHookServiceClient(connection).Describe(t.Context(), &hookv1.DescribeRequest{})
	if err != nil || !description.HeaderOnly {
		t.Error(description, err)
	}
	good := "From: a@b\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <x@y>\r\nSubject: Hi\r\nX-Spam-Score: -99\r\n\r\n"
	answer, err := hooktest.Ask(t.Context(), connection, nil, []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	edits := answer.GetAddHeader().GetEdits()
	if edits[0].GetRemove().GetName() != "X-Spam-Score" || edits[0].GetRemove().GetOccurrence() != 0 || edits[1].GetInsert().GetValue() != "0.0" {
		t.Error(answer)
	}
	answer, err = hooktest.Ask(t.Context(), connection, nil, []byte("Subject: =?utf-8?q?BUY_THIS_N=C3=96W?=\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if answer.Score != 5 || !slices.Equal(answer.Tags, []string{"no-date", "no-from", "no-message-id", "shouting"}) {
		t.Error(answer)
	}
}

func TestScoresWhateverComes(t *testing.T) {
	for name, octets := range map[string]string{
		"empty":            "",
		"no text":          "\x00\xff\xfe",
		"broken fields":    "From: <<<\r\nSubject: =?utf-8?b?//?= =?x?q?a?=\r\nDate: never\r\n\r\n",
		"10 MB of subject": "Subject: " + strings.Repeat("A", 10_000_000),
	} {
		verdict, err := tag(t.Context(), hook.NewMessage(nil, strings.NewReader(octets)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if answer := hooktest.Response(t, verdict); answer.Score <= 0 || answer.GetAddHeader() == nil {
			t.Errorf("%s: %v", name, answer)
		}
	}
}
