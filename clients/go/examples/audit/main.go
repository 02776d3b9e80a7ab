// Audit is an observer that appends what happened to each message to a file, one JSON object per line.
//
//	go run ./examples/audit -file audit.jsonl 127.0.0.1:7003
//	warp --observer audit=127.0.0.1:7003 …
//
// A batch is acknowledged once it is on the disk (fsync). What the proxy sends again after a reconnect or a crash is
// recognised by its event id and not written twice, also across a restart of this program: the ids of the file's last lines
// are read at the start, and a line that a crash cut in the middle is removed (it was never acknowledged).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"warp.example/hook"
)

func main() {
	file := flag.String("file", "", "where the lines go (`path`, made if missing, mode 0600)")
	flags := hook.AddFlags(flag.CommandLine)
	flag.Parse()
	if *file == "" {
		fmt.Fprintln(os.Stderr, "-file is missing")
		flag.Usage()
		os.Exit(2)
	}
	log, err := openLog(*file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := flags.Main(server(log))
	if err := log.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func server(log *auditLog) *hook.Server {
	store := hook.TransactionObserver(func(_ context.Context, batch hook.Batch) error {
		_, err := log.Append(batch.Events)
		return err
	})
	return &hook.Server{Name: "audit", Version: "1.0", Handlers: []hook.Handler{store}}
}
