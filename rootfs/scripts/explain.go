package scripts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
)

// Error is the failure of a script.
type Error struct {
	// Name is the script's.
	Name string
	// Line is the line at which it failed, from 1; 0 if that is not known.
	Line int
	// Command is what failed there, as far as that is known.
	Command string
	// Exit is how it ended, with the end of its output.
	Exit *command.ExitError
}

// Error implements error.
func (e *Error) Error() string {
	how := fmt.Sprintf("exit code %d", e.Exit.Code)
	if e.Exit.Signal != "" {
		how = "ended by signal: " + e.Exit.Signal
	}
	text := fmt.Sprintf("running %s: it failed", e.Name)
	if e.Line > 0 {
		text += fmt.Sprintf(" at line %d", e.Line)
	}
	text += " (" + how + ")"
	if e.Command != "" {
		text += ": " + strings.ReplaceAll(e.Command, "\n", "; ")
	}
	if e.Exit.Output != "" {
		text += "; it said: " + e.Exit.Output
	}
	return text
}

// Unwrap implements the interface of package errors.
func (e *Error) Unwrap() error { return e.Exit }

// What bash reads before a script, and where it leaves where a script failed.
const (
	tracerFile = "/run/imgbuild/tracer"
	reportDir  = "/run/imgbuild/report"
)

// tracer is what bash reads before a script. It notes each command that fails where a script is not prepared for it: the last one is usually why
// the script failed; and how the script ends. Neither the exit code nor $_ differs from a run without it.
const tracer = `unset BASH_ENV
set -o errtrace
trap 'printf "%s\n%s\n%s\n%s\n%.0s" "${BASH_SOURCE[*]:-$0}" "$LINENO" "${BASH_LINENO[*]}" "$BASH_COMMAND" "$_" > ` + reportDir + `/failed' ERR
trap 'printf "%s\n%s\n%s\n%s\n" "${BASH_SOURCE[*]:-$0}" 0 "${BASH_LINENO[*]}" "$BASH_COMMAND" > ` + reportDir + `/exit' EXIT
`

// trace is what the tracer has left of one command.
type trace struct {
	sources []string // the files of the functions that were running, the innermost first
	lines   []int    // where in each of them; 0 is unknown
	command string
}

// readTrace returns nil if the tracer has left nothing that can be used.
func readTrace(name string) (*trace, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading where a script failed: %w", err)
	}
	parts := strings.SplitN(strings.TrimSpace(string(data)), "\n", 4)
	if len(parts) < 4 {
		return nil, nil
	}
	t := &trace{sources: strings.Fields(parts[0]), command: parts[3]}
	for _, number := range strings.Fields(parts[1] + " " + parts[2]) {
		line, err := strconv.Atoi(number)
		if err != nil {
			return nil, nil //nolint:nilerr // a script has put something else there
		}
		t.lines = append(t.lines, line)
	}
	return t, nil
}

// in returns the line of a file that was running, and the file of the function in which the command stands where it is another one. ok is false
// if it is the trace of another script, which this one has called.
func (t *trace) in(file string) (line int, inside string, ok bool) {
	for i, source := range t.sources {
		if strings.HasSuffix(source, file) && i < len(t.lines) {
			if i > 0 && t.sources[0] != source {
				inside = t.sources[0]
			}
			return t.lines[i], inside, true
		}
	}
	return 0, "", false
}

// explain adds the place of the failure.
func (s script) explain(err error, name, report string) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	failed := &Error{Name: name, Exit: exit}
	end, err1 := readTrace(filepath.Join(report, "exit"))
	last, err2 := readTrace(filepath.Join(report, "failed"))
	if err := errors.Join(err1, err2); err != nil {
		return errors.Join(failed, err)
	}
	switch {
	case exit.Signal != "":
	case end != nil && strings.HasPrefix(end.command, "exit"):
		s.place(failed, end)
	case last != nil && (end == nil || end.command == last.command):
		s.place(failed, last)
	}
	if failed.Line == 0 && failed.Command == "" {
		failed.Line = s.said(exit.Output)
	}
	return failed
}

// place says where in the script a command failed.
func (s script) place(failed *Error, t *trace) {
	line, inside, ok := t.in(s.path)
	if !ok {
		return
	}
	if line == 0 {
		line = s.find(t.command)
	}
	failed.Line, failed.Command = line, t.command
	if inside != "" {
		failed.Command += " in " + inside
	}
}

// find returns the line of a command that stands in the script just once: bash does not tell the line of the command exit that ends a script.
func (s script) find(command string) int {
	pattern, err := regexp.Compile(`(^|[^\w-])` + strings.ReplaceAll(regexp.QuoteMeta(command), " ", `\s+`) + `($|[^\w-])`)
	if err != nil {
		return 0 // not UTF-8
	}
	found := 0
	for i, line := range strings.Split(s.text, "\n") {
		if pattern.MatchString(line) {
			if found > 0 {
				return 0
			}
			found = i + 1
		}
	}
	return found
}

// said finds the line in what interpreters say themselves when a script is wrong, the last one of them.
func (s script) said(output string) int {
	name := regexp.QuoteMeta(s.path)
	pattern := regexp.MustCompile(`(?m)` + name + `: (?:line )?(\d+): |` + // the shells
		`File "` + name + `", line (\d+)|` + // Python
		`at ` + name + ` line (\d+)[., ]|` + // Perl
		name + `:(\d+):`) // Ruby, Lua, awk
	all := pattern.FindAllStringSubmatch(output, -1)
	if len(all) == 0 {
		return 0
	}
	for _, number := range all[len(all)-1][1:] {
		if line, err := strconv.Atoi(number); err == nil {
			return line
		}
	}
	return 0
}
