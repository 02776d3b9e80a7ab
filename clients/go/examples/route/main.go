// Route is a choice of the way out: bulk mail leaves from a pool of its own, and a suspended sender is refused.
//
//	go run ./examples/route -bulk-pool bulk -bulk-domain news.example -suspended bad.example 127.0.0.1:7004
//	warp --hook route=127.0.0.1:7004 --config warp.yaml
//
// The proxy waits 200 ms for the answer and then goes by its own rules: nothing here may be slow. The zero Route leaves the
// transaction to those rules as well.
package main

import (
	"context"
	"flag"
	"os"
	"slices"
	"strings"

	"warp.example/hook"
	"warp.example/hook/hookv1"
)

// domains is a repeatable flag.
type domains map[string]bool

func (d domains) String() string { return "" }

func (d domains) Set(domain string) error {
	d[strings.ToLower(domain)] = true
	return nil
}

type settings struct {
	bulkPool        string
	bulk, suspended domains
}

// SelectRoute goes by the domain of MAIL FROM; the null sender (bounces) is always left to the rules.
func (s *settings) SelectRoute(_ context.Context, request *hookv1.SelectRouteRequest) (hook.Route, error) {
	sender := request.GetMailFrom().GetAddress()
	domain := strings.ToLower(sender[strings.LastIndexByte(sender, '@')+1:])
	switch {
	case domain == "":
		return hook.Route{}, nil
	case s.suspended[domain]:
		return hook.Refuse(451, "4.7.1", "Sender is suspended for now"), nil
	case s.bulk[domain] && slices.Contains(request.GetPools(), s.bulkPool):
		return hook.UsePool(s.bulkPool), nil
	}
	return hook.Route{}, nil
}

func main() {
	chosen := &settings{bulk: domains{}, suspended: domains{}}
	flag.StringVar(&chosen.bulkPool, "bulk-pool", "bulk", "`pool` in the proxy's configuration")
	flag.Var(chosen.bulk, "bulk-domain", "sender `domain`; repeatable")
	flag.Var(chosen.suspended, "suspended", "sender `domain`; repeatable")
	flags := hook.AddFlags(flag.CommandLine)
	flag.Parse()
	os.Exit(flags.Main(&hook.Server{Name: "route", Version: "1.0", Handlers: []hook.Handler{chosen}}))
}
