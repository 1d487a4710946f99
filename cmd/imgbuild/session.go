package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/imgbuild/imgbuild/internal/progress"
)

// globalFlags are the flags that every command has.
type globalFlags struct {
	logFormat string
	debug     bool
	logfile   string
	progress  string
}

func (f *globalFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.logFormat, "log-format", "text", "how messages look: text or json")
	flags.BoolVar(&f.debug, "debug", false, "show every step and each program that is run")
	flags.StringVar(&f.logfile, "logfile", "", "keep all messages, those of --debug too, in this `file`")
	flags.StringVar(&f.progress, "progress", "auto", "how progress looks: auto, terminal, plain, json or none")
}

func (f *globalFlags) validate() error {
	return errors.Join(oneOf("log-format", f.logFormat, "text", "json"),
		oneOf("progress", f.progress, "auto", "terminal", "plain", "json", "none"))
}

// session is one run of the program: its streams, its log and its display.
type session struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	flags          globalFlags

	display *progress.Display
	log     *slog.Logger
	logfile *os.File
}

// open starts the display and the log.
func (s *session) open() error {
	mode, width := s.displayMode()
	s.display = progress.New(s.stderr, mode, width)
	level := slog.LevelWarn
	if s.flags.debug {
		level = slog.LevelDebug
	}
	handlers := []slog.Handler{newLogHandler(s.display.Writer(), s.flags.logFormat, level)}
	if s.flags.logfile != "" {
		f, err := os.OpenFile(s.flags.logfile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("opening the log file: %w", err)
		}
		s.logfile = f
		handlers = append(handlers, newLogHandler(f, s.flags.logFormat, slog.LevelDebug))
	}
	s.log = slog.New(slog.NewMultiHandler(handlers...))
	return nil
}

func (s *session) displayMode() (progress.Mode, int) {
	f, ok := s.stderr.(*os.File)
	onTerminal := ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
	mode := progress.Mode(s.flags.progress)
	if s.flags.progress == "auto" {
		mode = progress.Plain
		if onTerminal {
			mode = progress.Terminal
		}
	}
	if onTerminal {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return mode, width
		}
	}
	return mode, 0
}

// close ends the display and the log.
func (s *session) close() {
	if s.display != nil {
		s.display.Close()
	}
	if s.logfile != nil {
		s.logfile.Close()
	}
}
