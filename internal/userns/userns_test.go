package userns

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestMain makes the test binary a program that enters a user namespace and does what $USERNS_TEST says.
func TestMain(m *testing.M) {
	what := os.Getenv("USERNS_TEST")
	if what == "" {
		os.Exit(m.Run())
	}
	MustEnter()
	os.Exit(inside(what))
}

func inside(what string) int {
	switch what {
	case "report":
		r := Real()
		file := filepath.Join(os.Getenv("USERNS_DIR"), "owned")
		err := os.WriteFile(file, nil, 0o600)
		fmt.Println("uid", os.Getuid(), "gid", os.Getgid(), "real", r.UID, r.GID, r.Rootless, "write", err,
			"chown", os.Chown(file, 65535, 65534), "hostname", syscall.Unshare(syscall.CLONE_NEWUTS), syscall.Sethostname([]byte("x")))
		_, err = os.Readlink("/proc/self/ns/user")
		fmt.Println("args", strings.Join(os.Args[1:], "|"), "proc", err, "stage", os.Getenv(stageVar) == "")
	case "foreign":
		dir := os.Getenv("USERNS_DIR")
		own, nobodys := filepath.Join(dir, "own"), filepath.Join(dir, "nobodys")
		for _, name := range []string{own, nobodys} {
			if err := os.Mkdir(name, 0o755); err != nil {
				fmt.Println(err)
			}
		}
		fmt.Println(os.Chown(nobodys, nobody, nobody))
		for _, name := range []string{"/etc", own, nobodys} {
			fmt.Println(Foreign(name))
		}
	case "exit":
		return 37
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "wait":
		ch := make(chan os.Signal, 1)
		signal.Notify(ch, syscall.SIGTERM)
		fmt.Println(os.Getpid())
		if err := os.WriteFile(filepath.Join(os.Getenv("USERNS_DIR"), "pid"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			return 1
		}
		select {
		case <-ch:
			return 55
		case <-time.After(time.Minute):
		}
	}
	return 0
}

func TestEnter(t *testing.T) {
	u := testenv.OrdinaryUser(t)
	cmd := u.Command(t, u.TestBinary(t), "a", "b c")
	cmd.Env = append(cmd.Env, "USERNS_TEST=report", "USERNS_DIR="+u.TempDir(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := fmt.Sprintf("uid 0 gid 0 real %d %d true write <nil> chown <nil> hostname <nil> <nil>\nargs a|b c proc <nil> stage true\n", u.UID, u.GID)
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}

// TestForeign tells a directory of this machine's root, who has no id in the namespace, from those of others.
func TestForeign(t *testing.T) {
	u := testenv.OrdinaryUser(t)
	cmd := u.Command(t, u.TestBinary(t))
	cmd.Env = append(cmd.Env, "USERNS_TEST=foreign", "USERNS_DIR="+u.TempDir(t))
	out, err := cmd.CombinedOutput()
	if diff := cmp.Diff("<nil>\ntrue <nil>\nfalse <nil>\nfalse <nil>\n", string(out)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestExitCodes(t *testing.T) {
	u := testenv.OrdinaryUser(t)
	binary := u.TestBinary(t)
	for what, want := range map[string]int{"exit": 37, "kill": 128 + 9} {
		cmd := u.Command(t, binary)
		cmd.Env = append(cmd.Env, "USERNS_TEST="+what)
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != want {
			t.Errorf("%s: exit code %d, %v; want %d", what, cmd.ProcessState.ExitCode(), err, want)
		}
	}
}

// TestSignals ends the outer process by a signal that it can pass on, and by one that it can't.
func TestSignals(t *testing.T) {
	u := testenv.OrdinaryUser(t)
	binary := u.TestBinary(t)
	for _, test := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGTERM, 55}, {syscall.SIGKILL, -1}} {
		dir := u.TempDir(t)
		cmd := u.Command(t, binary)
		cmd.Env = append(cmd.Env, "USERNS_TEST=wait", "USERNS_DIR="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := awaitFile(t, filepath.Join(dir, "pid"))
		if err := cmd.Process.Signal(test.signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != test.code {
			t.Errorf("%v: exit code %d, want %d", test.signal, got, test.code)
		}
		testenv.NoProcess(t, pid)
	}
}

func awaitFile(t *testing.T, name string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if data, err := os.ReadFile(name); err == nil && len(data) > 0 {
			return string(data)
		}
	}
	t.Fatalf("%s did not appear", name)
	return ""
}

func TestNotInside(t *testing.T) {
	u := testenv.OrdinaryUser(t)
	cmd := u.Command(t, u.TestBinary(t))
	cmd.Env = append(cmd.Env, "USERNS_TEST=exit", stageVar+"="+stageReady)
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != ExitCode || !strings.Contains(string(out), "unset it") {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

func TestParseRanges(t *testing.T) {
	const text = "root:1:5\n# comment\nann:100000:65536\nbob:165536:65536\n1001:300000:10\nann:x:3\nann:4:0\nann:100000:65536\nann:500000:65536"
	got := parseRanges(text, []string{"ann", "1001"})
	want := []idRange{{100000, 65536}, {300000, 10}, {500000, 65536}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(idRange{})); diff != "" {
		t.Error(diff)
	}
	got = parseDirectory("0: ann 100000 65536\n1: ann 7 x\n2: bob 1 2\n", "ann")
	if diff := cmp.Diff(want[:1], got, cmp.AllowUnexported(idRange{})); diff != "" {
		t.Error(diff)
	}
}

func TestTooFew(t *testing.T) {
	err := tooFew("/etc/subuid", "ann", "bob:100000:65536\neve:231072:65536\n", 0)
	want := "user ann has no subordinate ids in /etc/subuid; as root, add this line to it: ann:296608:65536 (or run imgbuild as root)"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
	err = tooFew("/etc/subgid", "ann", "ann:100000:5\n", 5)
	want = "user ann has only 5 subordinate ids of 65536 needed in /etc/subgid; as root, add this line to it: ann:100005:65536 (or run imgbuild as root)"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("ann:100000:65536")
	f.Fuzz(func(t *testing.T, line string) {
		if r, _, ok := parseRange(line); ok && (r.count == 0 || r.first+r.count >= 1<<32) {
			t.Errorf("%+v", r)
		}
	})
}
