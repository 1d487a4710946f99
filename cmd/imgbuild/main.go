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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once, whatever it may be waiting for
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
