package main

import (
	"strings"
	"testing"

	"warp.example/hook"
	"warp.example/hook/hooktest"
	"warp.example/hook/hookv1"
)

func TestSendsBulkMailToItsPool(t *testing.T) {
	chosen := &settings{bulkPool: "bulk", bulk: domains{}, suspended: domains{}}
	_ = chosen.bulk.Set("News.example")
	_ = chosen.suspended.Set("bad.example")
	client := hookv1.NewHookServiceClient(hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{chosen}}))
	for _, one := range []struct{ sender, pools, pool, refusal string }{
		{"x@news.example", "shared bulk", "bulk", ""},
		{"x@news.example", "shared", "", ""}, // no such pool in the proxy
		{"x@else.example", "bulk", "", ""},
		{"", "bulk", "", ""},
		{`"a@b"@BAD.example`, "bulk", "", "Sender is suspended for now"},
		{"@", "bulk", "", ""},
		{"\ufffd\x00@", "bulk", "", ""},
		{"a@" + strings.Repeat("b", 100_000), "bulk", "", ""},
	} {
		request := &hookv1.SelectRouteRequest{MailFrom: &hookv1.Address{Address: one.sender}, Pools: strings.Fields(one.pools)}
		answer, err := client.SelectRoute(t.Context(), request)
		if err != nil || answer.GetPool() != one.pool || answer.GetRefuse().GetText() != one.refusal {
			t.Errorf("%.40q: %v %v", one.sender, answer, err)
		}
	}
}
