package scripts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// machine is a root tree in a directory, which has this machine's programs.
type machine struct {
	dir  string
	edit *layers.Editor
	log  bytes.Buffer
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	testenv.NeedRoot(t)
	m := &machine{dir: t.TempDir(), edit: layers.NewTree().Edit(layers.Timespec{})}
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "etc", "image"} {
		if err := os.MkdirAll(filepath.Join(m.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(m.dir, link)); err != nil {
			t.Fatal(err)
		}
		if err := m.edit.Symlink("usr/"+link, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"usr/bin/bash", "usr/bin/sh", "usr/bin/env", "usr/bin/perl", "usr/bin/python3"} {
		if _, err := os.Stat("/" + name); err == nil {
			m.know(t, name)
		}
	}
	m.write(t, LibraryFile, string(Library()), 0o644)
	m.write(t, ProfileFile, "kiwi_iname='x y'\n", 0o644)
	return m
}

// know puts a file into the tree as a value, whose content is this machine's.
func (m *machine) know(t *testing.T, name string) {
	t.Helper()
	if err := m.edit.WriteFile(name, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) write(t *testing.T, name, text string, perm os.FileMode) {
	t.Helper()
	file := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), perm); err != nil {
		t.Fatal(err)
	}
	if err := m.edit.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.edit.WriteFile(name, []byte(text), uint32(perm)); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func (m *machine) run(ctx context.Context, t *testing.T, args ...string) error {
	t.Helper()
	return Run(ctx, Config, Options{
		Tree: m.edit.Tree(), Args: args, Variables: map[string]string{"kiwi_iname": "x y"}, Env: []string{"SOURCE_DATE_EPOCH=86400"}, Workdir: t.TempDir(),
		Progress: progress.Discard, Log: slog.New(slog.NewTextHandler(&m.log, nil)),
		Run: func(ctx context.Context, spec sandbox.Spec) error {
			spec.Root = m.dir
			for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/lib64"} {
				if _, err := os.Stat(dir); err == nil {
					spec.Binds = append(spec.Binds, sandbox.Bind{Source: dir, Target: dir, ReadOnly: true})
				}
			}
			return sandbox.Run(ctx, spec)
		},
	})
}

// runScript runs one script.
func runScript(t *testing.T, text string, perm os.FileMode) (*machine, error) {
	t.Helper()
	m := newMachine(t)
	m.write(t, "image/config.sh", text, perm)
	return m, m.run(t.Context(), t)
}

func TestRun(t *testing.T) {
	m := newMachine(t)
	m.write(t, "image/config.sh", `#!/bin/bash
set -e
test -f /.profile && . /.profile
false || echo "name=$kiwi_iname $1" > /result
false; echo not here
`, 0o755)
	if err := m.run(t.Context(), t, "an argument"); err == nil {
		t.Error("set -e has no effect")
	}
	if got := m.read(t, "result"); got != "name=x y an argument\n" {
		t.Errorf("%q", got)
	}
	if log := m.log.String(); strings.Contains(log, "not here") {
		t.Errorf("log %q", log)
	}
}

// TestInterpreter looks who runs a script.
func TestInterpreter(t *testing.T) {
	const who = `if [ -n "${BASH_VERSION:-}" ]; then echo bash $-; else echo sh; fi > /who` + "\n"
	for _, test := range []struct {
		name, text string
		perm       os.FileMode
		want       string
	}{
		{"executable", "#!/bin/bash -u\n" + who, 0o755, "bash huB"},
		{"executable for sh", "#!/bin/sh\n" + who, 0o755, "sh"},
		{"not executable, as in KIWI", "#!/bin/sh -u\n" + who, 0o644, "bash hB"},
		{"no first line", who, 0o755, "bash hB"},
		{"empty", "", 0o644, ""},
		{"through env", "#!/usr/bin/env bash\n" + who, 0o755, "bash hB"},
		{"Perl, not executable", "#!/usr/bin/perl\nopen(F, '>', '/who'); print F \"perl\\n\";\n", 0o644, "perl"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if strings.HasPrefix(test.name, "Perl") {
				testenv.NeedProgram(t, "perl")
			}
			m, err := runScript(t, test.text, test.perm)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				return
			}
			got := strings.TrimSpace(m.read(t, "who"))
			if !strings.HasPrefix(got, strings.Fields(test.want)[0]) || len(strings.Fields(test.want)) != len(strings.Fields(got)) || strings.Contains(test.want, "u") != strings.Contains(got, "u") {
				t.Errorf("%q, not %q", got, test.want)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name, script string
		line, code   int
		want         []string
	}{
		{"command", "#!/bin/bash\nset -e\necho before\nls /nowhere\necho after\n", 4, 2, []string{"running config.sh: it failed at line 4 (exit code 2): ls /nowhere", "before", "No such file"}},
		{"function", "#!/bin/bash -e\nbroken() {\n  false\n}\nbroken\n", 3, 1, []string{"line 3 (exit code 1): false"}},
		{"exit", "echo x\n\nif true; then exit 9; fi\n", 3, 9, []string{"it failed at line 3 (exit code 9): exit 9; it said: x"}},
		{"exit that stands twice", "false || exit 4\ntrue || exit 4\n", 0, 4, []string{"it failed (exit code 4): exit 4"}},
		{"exit in a function of the library", "#!/bin/bash\n. /lib.sh\necho\nstop\n", 4, 5, []string{"it failed at line 4 (exit code 5): exit 5 in /lib.sh"}},
		{"last command", "echo\nfalse\n", 2, 1, []string{"at line 2"}},
		{"unset variable", "set -u\n\necho $nonsense\n", 3, 1, []string{"nonsense: unbound variable"}},
		{"syntax", "echo one\nif\n", 3, 2, []string{"syntax error"}},
		{"sh", "#!/bin/sh\nset -e\nnonsense\n", 3, 127, []string{"it failed at line 3 (exit code 127)", "nonsense: not found"}},
		{"Python", "#!/usr/bin/python3\nimport sys\n\nraise ValueError('x')\n", 4, 1, []string{"it failed at line 4", "ValueError"}},
		{"Perl", "#!/usr/bin/perl\n\ndie 'x';\n", 3, 255, []string{"it failed at line 3"}},
		{"signal", "#!/bin/bash\nfalse\nkill -9 $$\n", 0, -1, []string{"it failed (ended by signal: killed)"}},
		{"a script that calls another", "#!/bin/bash\nset -e\nprintf '#!/bin/bash\\nfalse\\nexit 6\\n' > /inner; chmod +x /inner\n/inner\n", 4, 6, []string{"at line 4 (exit code 6): /inner"}},
		{"sh that calls bash", "#!/bin/sh\nset -e\nbash -c 'exit 6'\n", 0, 6, []string{"it failed (exit code 6)"}},
		{"own traps", "#!/bin/bash\ntrap 'echo mine' EXIT\nset -e\nfalse\n", 4, 1, []string{"mine"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if first, _, ok := strings.Cut(test.script, "\n"); ok && strings.HasPrefix(first, "#!/usr/bin/") {
				testenv.NeedProgram(t, filepath.Base(first))
			}
			m := newMachine(t)
			m.write(t, "lib.sh", "stop() {\n  exit 5\n}\n", 0o644)
			m.write(t, "image/config.sh", test.script, 0o755)
			err := m.run(t.Context(), t)
			var failed *Error
			if !errors.As(err, &failed) {
				t.Fatalf("%T: %v", err, err)
			}
			if failed.Line != test.line || failed.Exit.Code != test.code {
				t.Errorf("line %d, code %d", failed.Line, failed.Exit.Code)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q has no %q", err, want)
				}
			}
		})
	}
}

// TestSameBehavior compares what a script sees with what it sees where nothing watches it.
func TestSameBehavior(t *testing.T) {
	const script = `#!/bin/bash
ls /nowhere under 2> /dev/null
echo "last $? $_"
false | true | false; echo "${PIPESTATUS[@]}"
x=$(exit 3); echo "substitution $?"
f() { return 7; }; f || echo "function $?"
(trap -p | grep -v imgbuild; exit 4); echo "subshell $?"
env | grep -c BASH_ENV
/usr/bin/env sh -c 'echo "${BASH_ENV-none}"'
bash -c 'trap -p; exit 6'; echo "child $?"
set -o | grep errexit
`
	m, err := runScript(t, "exec > /out\n"+script, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	want, err := exec.Command("bash", "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), m.read(t, "out")); diff != "" {
		t.Error(diff)
	}
}

func TestUnusable(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"interpreter", "#!/usr/bin/perl6\n", "its interpreter /usr/bin/perl6 is not in the root tree; add the package"},
		{"through env", "#!/usr/bin/env perl6\n", "its interpreter perl6 is not in the root tree"},
		{"no interpreter", "#!\n", "names no interpreter"},
		{"DOS", "#!/bin/bash\r\necho\r\n", "CR LF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := runScript(t, test.script, 0o755)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "config.sh") {
				t.Errorf("error %v", err)
			}
		})
	}
	m := newMachine(t)
	m.write(t, "image/config.sh", "echo", 0o644)
	for _, shell := range []string{"usr/bin/bash", "usr/bin/sh"} {
		if err := m.edit.Remove(shell); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.run(t.Context(), t); err == nil || !strings.Contains(err.Error(), "add the package bash") {
		t.Errorf("error %v", err)
	}
	if Has(m.edit.Tree(), Images) {
		t.Error("a script that is not there")
	}
}

// mounts returns what is mounted below a directory, and where the scripts mount. What other tests mount at the same time is elsewhere.
func mounts(t *testing.T, dir string) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		place := strings.Fields(line)[1]
		if strings.HasPrefix(place, dir) || place == "/mnt" || place == "/m" {
			found = append(found, line)
		}
	}
	return found
}

// TestHostile runs scripts that mean no good: what is outside is as before, and nothing stays.
func TestHostile(t *testing.T) {
	sleep := fmt.Sprintf("98765.%d", os.Getpid()) // nobody else sleeps as long
	outside := t.TempDir()
	for _, test := range []struct {
		name, script string
		fails        string
	}{
		{"kills its parent", "kill -9 $PPID 1; echo alive > /alive", ""},
		{"kills everybody", "sleep 60 & kill -9 -1; kill -9 $$", "ended by signal: killed"},
		{"starts a daemon", "setsid sleep " + sleep + " & (sleep " + sleep + " &) ; exit 0", ""},
		{"reads its standard input", "read x; cat; echo got $x", ""},
		{"writes through links", "ln -s / /out; echo x > /out/inside; echo x > /link/file", "No such file or directory"},
		{"climbs out", "cd ../../../../..; echo x > " + outside + "/file", "No such file or directory"},
		{"removes its description", "rm -rf /image; echo gone", ""},
		{"fills a file system", "cat /dev/zero > /dev/everything", "No space left on device"},
		{"prints anything", "head -c 300000 /dev/urandom; printf '\\n\\033[2J'; exit 3", "exit code 3"},
		{"prints one long line", "head -c 3000000 /dev/zero | tr '\\0' x", ""},
		{"mounts", "mount -t tmpfs x /mnt 2> /dev/null; mkdir /m; mount --bind /etc /m 2> /dev/null; exit 0", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			if err := os.Symlink(outside, filepath.Join(m.dir, "link")); err != nil {
				t.Fatal(err)
			}
			m.write(t, "image/config.sh", "#!/bin/bash\n"+test.script+"\n", 0o755)
			before := mounts(t, m.dir)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			err := m.run(ctx, t)
			switch {
			case test.fails == "" && err != nil:
				t.Errorf("error %v", err)
			case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
				t.Errorf("error %v", err)
			case err != nil && (!utf8.ValidString(err.Error()) || len(err.Error()) > 20000):
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if !utf8.Valid(m.log.Bytes()) {
				t.Error("the log is not text")
			}
			for line := range strings.Lines(m.log.String()) {
				if len(line) > 20*maxLine {
					t.Errorf("the log has a line of %d bytes", len(line))
				}
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
				t.Errorf("outside: %v, %v", entries, err)
			}
			if diff := cmp.Diff(before, mounts(t, m.dir)); diff != "" {
				t.Errorf("mounts differ (-before +after):\n%s", diff)
			}
			if out, err := exec.Command("pgrep", "-f", "sleep "+sleep).Output(); err == nil {
				t.Errorf("still running: %s", out)
			}
		})
	}
}

func TestCanceled(t *testing.T) {
	m := newMachine(t)
	m.write(t, "image/config.sh", "#!/bin/bash\nsleep 60\n", 0o755)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := m.run(ctx, t); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
