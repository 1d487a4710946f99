package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/command"
)

// withTerminal runs the first process of a sandbox with the terminal of this process, and takes the terminal back afterwards.
func withTerminal(ctx context.Context, cmd command.Cmd) (err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening the terminal of this process: %w", err)
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return fmt.Errorf("asking who has the terminal: %w", err)
	}
	modes, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("asking how the terminal is set: %w", err)
	}
	// A process that is not in the foreground is stopped when it changes the terminal, unless it ignores this signal.
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	defer func() {
		err = errors.Join(err, unix.IoctlSetPointerInt(int(tty.Fd()), unix.TIOCSPGRP, group), unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, modes))
	}()
	cmd.Files = append(cmd.Files, tty) // terminalFD
	return command.Run(ctx, cmd)
}
