// Command boot starts a disk in a virtual machine, logs in on its serial console, runs a command and shows what the machine prints
// and answers.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/imgbuild/imgbuild/internal/qemu"
)

// patience is how long the machine may take to its login prompt where it has to be emulated.
const patience = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	firmware := flag.String("firmware", string(qemu.UEFI), "bios, uefi or secureboot")
	user := flag.String("user", "root", "who logs in")
	password := flag.String("password", "", "the password")
	command := flag.String("run", "uname -a", "what to run after logging in")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: boot [flags] DISK")
		os.Exit(2)
	}
	if err := boot(ctx, flag.Arg(0), qemu.Firmware(*firmware), *user, *password, *command); err != nil {
		fmt.Fprintln(os.Stderr, "boot:", err)
		os.Exit(1)
	}
}

func boot(ctx context.Context, disk string, firmware qemu.Firmware, user, password, command string) error {
	format := strings.TrimPrefix(filepath.Ext(disk), ".")
	machine, err := qemu.Start(ctx, qemu.Spec{Firmware: firmware, Disks: []qemu.Disk{{File: disk, Format: format}}, Console: os.Stdout})
	if err != nil {
		return err
	}
	defer machine.Close()
	if err := machine.Login(ctx, user, password, patience); err != nil {
		return err
	}
	answer, code, err := machine.Run(ctx, command, time.Minute)
	if err != nil {
		return err
	}
	fmt.Printf("\n\nThe machine was asked: %s\nIt answered, with exit code %d:\n%s\n", command, code, answer)
	if code != 0 {
		return fmt.Errorf("the command ended with exit code %d", code)
	}
	return machine.Shutdown(ctx, time.Minute)
}
