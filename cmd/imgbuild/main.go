// Command imgbuild turns containers into machines.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func main() {
	sandbox.Init()
	if registry.Init() {
		return
	}
	ctx, interrupt := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		interrupt()
		<-signals
		// At once, whatever is being waited for. The signal's own way would not do: a shell makes its background processes ignore SIGINT.
		os.Exit(exitInterrupted)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
