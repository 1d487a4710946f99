package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/imgbuild/imgbuild/internal/logtext"
	"github.com/imgbuild/imgbuild/internal/progress"
)

// globalFlags are the flags that every command has.
type globalFlags struct {
	logFormat string
	debug     bool
	logfile   string
	progress  string
	tempDir   string

	// These are kiwi-ng's.
	logLevel  int
	logSocket string
	color     bool
	screen    bool
}

func (f *globalFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.logFormat, "log-format", "text", "how messages look: text or json")
	flags.BoolVar(&f.debug, "debug", false, "show every step and each program that is run")
	flags.StringVar(&f.logfile, "logfile", "", "keep all messages, those of --debug too, in this `file`; stdout is standard output")
	flags.StringVar(&f.progress, "progress", "auto", "how progress looks: auto, terminal, plain, json or none")
	flags.StringVar(&f.tempDir, "temp-dir", "", "the `directory` for temporary files (default: $TMPDIR, or /tmp)")
	flags.IntVar(&f.logLevel, "loglevel", 0, "")
	flags.StringVar(&f.logSocket, "logsocket", "", "")
	flags.BoolVar(&f.color, "color-output", false, "")
	flags.BoolVar(&f.screen, "debug-run-scripts-in-screen", false, "")
	for _, name := range []string{"loglevel", "logsocket", "color-output", "debug-run-scripts-in-screen"} {
		_ = flags.MarkHidden(name) // it is defined above
	}
}

// level is the lowest level of messages that are shown; kiwi-ng's levels are those of Python: 10 is debug, 20 info, 30 warning.
func (f *globalFlags) level() slog.Level {
	switch {
	case f.debug, f.logLevel > 0 && f.logLevel <= 10:
		return slog.LevelDebug
	case f.logLevel > 10 && f.logLevel <= 20:
		return slog.LevelInfo
	case f.logLevel > 30:
		return slog.LevelError
	}
	return slog.LevelWarn
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
	closers []io.Closer
}

// open starts the display and the log.
func (s *session) open() error {
	if s.flags.tempDir != "" { // programs that are run use it too
		if err := os.Setenv("TMPDIR", s.flags.tempDir); err != nil {
			return fmt.Errorf("setting the directory for temporary files: %w", err)
		}
	}
	mode, width := s.displayMode()
	s.display = progress.New(s.stderr, mode, width)
	handlers := []slog.Handler{s.logHandler(s.display.Writer(), s.flags.level())}
	if s.flags.logfile == "stdout" {
		handlers = append(handlers, s.logHandler(s.stdout, slog.LevelDebug))
	} else if s.flags.logfile != "" {
		f, err := os.OpenFile(s.flags.logfile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("opening the log file: %w", err)
		}
		s.closers = append(s.closers, f)
		handlers = append(handlers, s.logHandler(f, slog.LevelDebug))
	}
	if s.flags.logSocket != "" {
		conn, err := net.Dial("unix", s.flags.logSocket)
		if err != nil {
			return fmt.Errorf("opening the socket for the log: %w", err)
		}
		s.closers = append(s.closers, conn)
		handlers = append(handlers, s.logHandler(conn, slog.LevelDebug))
	}
	s.log = slog.New(slog.NewMultiHandler(handlers...))
	if s.flags.screen {
		s.log.Warn("--debug-run-scripts-in-screen has no effect; --shell-on-error opens a shell where a script fails")
	}
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
	for _, c := range s.closers {
		c.Close()
	}
}

// logHandler returns a handler for lines as people read them, or for JSON with a time.
func (s *session) logHandler(w io.Writer, level slog.Level) slog.Handler {
	if s.flags.logFormat == "json" {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return logtext.New(w, logtext.Options{Level: level, Prefix: "imgbuild: "})
}
