// A filter for the benchmarks: reads every message whole and relays it.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"warp.example/hook"
)

func main() {
	go func() {
		time.Sleep(500 * time.Millisecond)
		fmt.Println("ready")
	}()
	filter := func(_ context.Context, message *hook.Message) (hook.Verdict, error) {
		_, err := message.Bytes()
		return hook.Relay(), err
	}
	if err := hook.Serve(context.Background(), os.Args[1], hook.Filter(filter)); err != nil {
		log.Fatal(err)
	}
}
