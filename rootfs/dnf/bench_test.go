package dnf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// dnf5Variable names a tar file with a root tree that has dnf5, rpm and createrepo_c, which Debian 12 lacks; docs/package-managers.md says how to make one.
const dnf5Variable = "IMGBUILD_TEST_DNF5_TAR"

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	code := m.Run()
	if err := shared.remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// shared is what many tests use: making it takes a moment.
var shared sharedThings

type sharedThings struct {
	mu         sync.Mutex
	repository string
	builder    *managertest.Builder
}

func (s *sharedThings) remove() error {
	return errors.Join(os.RemoveAll(s.repository), s.builder.Close())
}

// path returns the directory of the repository, which is made when it is asked for first. Tests don't change it.
func (s *sharedThings) path(t *testing.T) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repository == "" {
		dir, err := os.MkdirTemp("", "repository-")
		managertest.Must(t, err)
		testrepos.MakeRPMRepo(t, dir, testrepos.RPMRepo{Packages: few(), Groups: testrepos.Group("basics", []string{"hello", "absent"}, []string{"extra"})})
		s.repository = dir
	}
	return s.repository
}

// dnf5 returns a builder with dnf5, which is unpacked when it is asked for first.
func (s *sharedThings) dnf5(t *testing.T) *managertest.Builder {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.builder == nil {
		var err error
		s.builder, err = managertest.OpenBuilder(context.Background(), os.Getenv(dnf5Variable)) // it lasts longer than the test
		managertest.Must(t, err)
	}
	return s.builder
}

// bench is a program of the family that is tested.
type bench struct {
	manager string
	program string               // of a tree that has it
	builder *managertest.Builder // nil is this machine
}

// each runs a test with this machine's dnf4, and with dnf5 where there is one.
func each(t *testing.T, test func(bench, *testing.T)) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "rpm", "rpmbuild", "createrepo_c")
	t.Run("dnf4", func(t *testing.T) {
		testenv.NeedPrograms(t, "dnf-3")
		test(bench{manager: "dnf4", program: "dnf-3"}, t)
	})
	t.Run("dnf5", func(t *testing.T) {
		if os.Getenv(dnf5Variable) == "" {
			t.Skipf("%s names no root tree with dnf5", dnf5Variable)
		}
		test(bench{manager: "dnf5", program: "dnf5", builder: shared.dnf5(t)}, t)
	})
}

// asBoth does the same as root and as an ordinary user.
func asBoth(t *testing.T, test func(bench, *testing.T)) {
	t.Helper()
	testenv.AsBoth(t, func(t *testing.T) { each(t, test) }, dnf5Variable+"="+os.Getenv(dnf5Variable))
}

// ownState gives a tree that borrows its programs a place for dnf5's notes, which is below a directory that it borrows.
func (b bench) ownState(t *testing.T, w world) {
	t.Helper()
	const dir = "usr/lib/sysimage/libdnf5"
	if b.builder == nil {
		return
	}
	managertest.Must(t, os.MkdirAll(filepath.Join(b.builder.Dir, dir), 0o755))
	state := t.TempDir()
	w.Binds = []sandbox.Bind{{Source: state, Target: "/" + dir}}
}
