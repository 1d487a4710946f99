package main

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	if registry.Init() {
		return
	}
	testscript.Main(m, map[string]func(){"imgbuild": main})
}

// TestScripts runs the transcripts in testdata: what users type and what they see.
func TestScripts(t *testing.T) {
	testscript.Run(t, scripts(t, "testdata"))
}

// scriptLimit is how long all transcripts of a directory may take together, which is several times what they do. What hangs then says where.
const scriptLimit = 10 * time.Minute

// scripts says how the transcripts of a directory are run.
func scripts(t *testing.T, dir string) testscript.Params {
	limit := time.Now().Add(scriptLimit)
	if deadline, ok := t.Deadline(); ok && deadline.Before(limit) {
		limit = deadline
	}
	return testscript.Params{
		Dir:       dir,
		Deadline:  limit,
		Setup:     func(env *testscript.Env) error { return setUp(t, env) },
		Condition: condition, ContinueOnError: testing.Verbose(),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "keep": keep, "jsonlines": jsonLines, "equal": equal, "store-intact": storeIntact,
			"registry": startRegistry, "push-index": pushIndex, "login": login, "podman-storage": podmanStorage, "hostile": hostile, "disguise": disguise, "programs": programs, "described": described,
		},
	}
}

// setUp gives a transcript a store, a home directory and a temporary directory of its own.
func setUp(t *testing.T, env *testscript.Env) error {
	env.Setenv("IMGBUILD_STORE", env.WorkDir+"/store")
	env.Setenv("HOME", env.WorkDir+"/home")
	env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/cache")
	env.Setenv("XDG_RUNTIME_DIR", env.WorkDir+"/run")
	env.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	env.Setenv("ADDRESS", outwardAddress())
	env.Setenv("MOUNTS_OF_ITS_OWN", "--mount")
	if os.Getuid() != 0 {
		env.Setenv("MOUNTS_OF_ITS_OWN", "-Urm")
	}
	env.Setenv("PATH", env.Getenv("PATH")+":/usr/sbin:/sbin") // an ordinary user's PATH on Debian lacks them
	for _, name := range []string{"USER", "LOGNAME"} {
		env.Setenv(name, os.Getenv(name))
	}
	env.Values[testKey{}] = t
	for dir, mode := range map[string]os.FileMode{"home": 0o755, "run": 0o700} {
		if err := os.MkdirAll(env.WorkDir+"/"+dir, mode); err != nil {
			return err
		}
	}
	return nil
}

// testKey is where a transcript keeps the test that it belongs to.
type testKey struct{}

// condition decides [need:PROGRAM], which fails in CI instead of being false, [superuser] and [address].
func condition(name string) (bool, error) {
	if program, ok := strings.CutPrefix(name, "need:"); ok {
		_, err := command.Find(program)
		if err != nil && testenv.CI() {
			return false, err
		}
		return err == nil, nil
	}
	switch name {
	case "superuser":
		return os.Getuid() == 0 && !testenv.InUserNamespace(), nil
	case "address":
		return outwardAddress() != "", nil
	}
	return false, &unknownCondition{name}
}

type unknownCondition struct{ name string }

func (e *unknownCondition) Error() string { return "no condition " + e.name }

// outwardAddress is an IPv4 address of this machine that is not on loopback, or empty.
func outwardAddress() string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return ""
}

// exits runs a program and checks its exit code: exits CODE PROGRAM ARGS...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		coded, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("running %s: %v", args[1], err)
		}
		got = coded.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with exit code %d, want %d", args[1], got, want)
	}
}
