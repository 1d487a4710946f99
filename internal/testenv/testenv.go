// Package testenv says what a test needs from the machine. A test without it is skipped with the reason; where IMGBUILD_CI=1 is set,
// a missing need is a failure, so that the project's own runs leave nothing out unseen.
package testenv

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/command"
)

// CI reports whether missing needs are failures.
func CI() bool { return os.Getenv("IMGBUILD_CI") == "1" }

// Missing ends the test: with a failure in CI, otherwise as skipped.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if CI() {
		t.Fatalf("needed here (IMGBUILD_CI=1): "+format, args...)
	}
	t.Skipf("not possible here: "+format, args...)
}

// NeedProgram returns the path of an external program.
func NeedProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := command.Find(name)
	if err != nil {
		Missing(t, "%v", err)
	}
	return path
}

// NeedPrograms asks for several external programs.
func NeedPrograms(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		NeedProgram(t, name)
	}
}

// NeedRoot asks for user id 0: the superuser or the root of a user namespace.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not possible here: this test needs to be root, or root of a user namespace")
	}
}

// NeedRealRoot asks for the superuser of the machine, who may make device nodes.
func NeedRealRoot(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	if InUserNamespace() {
		t.Skip("not possible here: this test needs the superuser of the machine, not the root of a user namespace")
	}
}

// InUserNamespace reports whether this process runs in a user namespace that is not the machine's first one.
func InUserNamespace() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	var inside, outside, count uint64
	if err := scanMap(string(data), &inside, &outside, &count); err != nil {
		return true
	}
	return inside != 0 || outside != 0 || count != 1<<32-1
}

// NeedFile asks for a file or directory of the machine.
func NeedFile(t testing.TB, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		Missing(t, "%v", err)
	}
	return path
}

// runLimit is how long a program of a test may run.
const runLimit = 10 * time.Minute

// Run runs a program of the test itself, such as a foreign reader, and ends the test if it fails. It returns both outputs.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := NeedProgram(t, name)
	// Not with the test's context: cleaning up after a test runs programs too.
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin") // an ordinary user's has neither
	out, err := cmd.CombinedOutput()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && ctx.Err() == nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		if ctx.Err() != nil {
			t.Fatalf("%s %q has not ended after %v\n%s", name, args, runLimit, out)
		}
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(out)
}
