package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/imgbuild/imgbuild/registry/store"
)

// kills is how often each command is killed.
const kills = 50

// killed runs imgbuild in a store of its own and kills it at random moments.
type killed struct {
	t       *testing.T
	program string
	dir     string
	mounts  []byte
	loops   []string
	random  *rand.Rand
	longest time.Duration // that one whole run takes
}

func newKilled(t *testing.T) *killed {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k := &killed{t: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(1, 2))}
	k.program = filepath.Join(k.dir, "imgbuild")
	if err := os.Symlink(self, k.program); err != nil {
		t.Fatal(err)
	}
	k.mounts, k.loops = k.machine()
	return k
}

// machine is what of this machine a killed imgbuild must not change.
func (k *killed) machine() (mounts []byte, loops []string) {
	k.t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		k.t.Fatal(err)
	}
	for line := range bytes.Lines(table) { // what others mount meanwhile is theirs
		if bytes.Contains(line, []byte(filepath.Dir(k.dir))) {
			mounts = append(mounts, line...)
		}
	}
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		k.t.Fatal(err)
	}
	for _, device := range devices {
		file, _ := os.ReadFile(device) // it may be gone meanwhile
		if strings.HasPrefix(string(file), filepath.Dir(k.dir)) {
			loops = append(loops, device)
		}
	}
	return mounts, loops
}

// commandLimit is how long one run may take, which is many times what it does. One that hangs is asked where.
const commandLimit = 5 * time.Minute

func (k *killed) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(k.t.Context(), commandLimit)
	k.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, k.program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "IMGBUILD_STORE="+filepath.Join(k.dir, "store"), "XDG_CACHE_HOME="+filepath.Join(k.dir, "cache"), "TMPDIR="+k.t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// must runs imgbuild to its end.
func (k *killed) must(args ...string) string {
	k.t.Helper()
	var errors bytes.Buffer
	cmd := k.command(args...)
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		k.t.Fatalf("imgbuild %s: %v: %s", strings.Join(args, " "), err, errors.String())
	}
	return string(out)
}

// attempt starts imgbuild and kills it and nobody else after a random time. It returns once its pid is gone.
func (k *killed) attempt(args ...string) {
	k.t.Helper()
	cmd := k.command(args...)
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	time.Sleep(time.Duration(k.random.Int64N(int64(k.longest) + 1)))
	if err := cmd.Process.Kill(); err != nil && err != os.ErrProcessDone {
		k.t.Fatal(err)
	}
	_ = cmd.Wait() // killed, most times
	k.nothingLeft()
}

// nothingLeft checks that no process, mount or loop device of the killed run stays.
func (k *killed) nothingLeft() {
	k.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		left := k.processes()
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("processes of a killed run go on: %v", left)
		}
		time.Sleep(10 * time.Millisecond)
	}
	mounts, loops := k.machine()
	if !bytes.Equal(mounts, k.mounts) {
		k.t.Fatalf("the mounts changed: %s", cmp.Diff(string(k.mounts), string(mounts)))
	}
	if diff := cmp.Diff(k.loops, loops); diff != "" {
		k.t.Fatalf("loop devices changed: %s", diff)
	}
}

// processes returns the command lines of processes that work in the test's directory.
func (k *killed) processes() []string {
	k.t.Helper()
	var found []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		k.t.Fatal(err)
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err != nil || pid == os.Getpid() {
			continue
		}
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ")) // it may end meanwhile
		stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if bytes.Contains(environ, []byte(k.dir)) && !bytes.Contains(stat, []byte(") Z ")) {
			line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			found = append(found, e.Name()+": "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// verifyStore checks every blob and index of the store.
func (k *killed) verifyStore() {
	k.t.Helper()
	s, err := store.Open(filepath.Join(k.dir, "store"), store.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	defer s.Close()
	damages, err := s.Verify(k.t.Context())
	if err != nil || len(damages) > 0 {
		k.t.Fatalf("the store is damaged: %v, %v", damages, err)
	}
}

// fill makes a root tree of some files whose bytes don't compress.
func (k *killed) fill(root string) {
	k.t.Helper()
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], k.random.Uint64())
	noise, data := rand.NewChaCha8(seed), make([]byte, 200<<10)
	for i := range 60 {
		_, _ = noise.Read(data) // never fails
		path := filepath.Join(root, "usr/share", fmt.Sprint(i%7), fmt.Sprint("file", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			k.t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			k.t.Fatal(err)
		}
	}
}

func (k *killed) time(run func()) {
	start := time.Now()
	run()
	k.longest = time.Since(start)
}

func TestKilledStashLosesNothing(t *testing.T) {
	k := newKilled(t)
	root := filepath.Join(k.dir, "root")
	k.fill(root)
	stash := []string{"stash", "--root", root, "--container-name", "web"}
	k.time(func() { k.must(stash...) })
	for i := range kills {
		k.fill(root)
		before := k.must("ls", "web", "/usr/share", "-R")
		k.attempt(stash...)
		k.verifyStore()
		if after := k.must("ls", "web", "/usr/share", "-R"); after == "" || strings.Count(after, "\n") != strings.Count(before, "\n") {
			t.Fatalf("after kill %d the stash holds:\n%s", i, after)
		}
		if i%10 == 9 {
			k.must("prune")
		}
	}
	k.must(stash...)
	k.must("export", "web", "--output", filepath.Join(k.dir, "back"))
	if out, err := exec.Command("diff", "-r", root, filepath.Join(k.dir, "back")).CombinedOutput(); err != nil {
		t.Errorf("the last stash differs from its root tree: %s", out)
	}
	k.must("prune")
	k.verifyStore()
	if leftovers, _ := filepath.Glob(filepath.Join(k.dir, "store/imgbuild/tmp/*")); len(leftovers) > 0 {
		t.Errorf("left over after prune: %v", leftovers)
	}
}

func TestKilledPullGoesOn(t *testing.T) {
	k := newKilled(t)
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	name := "docker://" + strings.TrimPrefix(server.URL, "http://") + "/web:latest"
	root := filepath.Join(k.dir, "root")
	k.fill(root)
	k.must("stash", "--root", root, "--container-name", "kept")
	k.must("stash", "--root", root, "--container-name", "web")
	k.must("push", "web", name)
	k.must("rm", "web")
	k.must("prune")
	back := filepath.Join(k.dir, "back")
	same := func(when string) {
		t.Helper()
		if out, err := exec.Command("diff", "-r", root, back).CombinedOutput(); err != nil {
			t.Errorf("what was pulled %s differs: %s", when, out)
		}
	}
	k.time(func() { k.must("pull", name) })
	for i := range kills {
		k.must("rm", strings.TrimPrefix(name, "docker://"))
		k.must("prune")
		if i%2 == 0 {
			k.attempt("pull", name)
		} else {
			k.attempt("export", name, "--output", back)
			if _, err := os.Lstat(back); err == nil { // it was complete by then
				same("before the kill")
			}
		}
		k.verifyStore()
		k.must("inspect", "kept:latest")
		k.must("pull", name)
		if err := os.RemoveAll(back); err != nil {
			t.Fatal(err)
		}
	}
	k.must("export", strings.TrimPrefix(name, "docker://"), "--output", back)
	same("in the end")
	if left, _ := filepath.Glob(filepath.Join(k.dir, ".*")); len(left) > 0 {
		t.Errorf("left over after an export that went through: %v", left)
	}
}

func TestKilledStackbuildLeavesNoHalfResult(t *testing.T) {
	k := newKilled(t)
	root := filepath.Join(k.dir, "root")
	k.fill(root)
	if err := os.MkdirAll(filepath.Join(root, "image"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "image/config.xml"), []byte(ociDescription), 0o644); err != nil {
		t.Fatal(err)
	}
	k.must("stash", "--root", root, "--container-name", "web")
	target := filepath.Join(k.dir, "out")
	build := []string{"stackbuild", "--stash", "web", "--target-dir", target, "--force", "--type", "all"}
	k.time(func() { k.must(build...) })
	for i := range kills {
		if err := os.RemoveAll(target); err != nil {
			t.Fatal(err)
		}
		k.attempt(build...)
		k.verifyStore()
		sums := filepath.Join(target, "SHA256SUMS")
		if _, err := os.Stat(sums); err != nil {
			if images, _ := filepath.Glob(filepath.Join(target, "*.tar*")); len(images) > 2 {
				t.Fatalf("kill %d left %v", i, images)
			}
			continue
		}
		cmd := exec.Command("sha256sum", "--quiet", "-c", "SHA256SUMS")
		cmd.Dir = target
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("kill %d left results that differ from their checksums: %s", i, out)
		}
	}
	k.must(build...)
	for _, pattern := range []string{".*", "build"} {
		if left, _ := filepath.Glob(filepath.Join(target, pattern)); len(left) > 0 {
			t.Errorf("left over after a build that went through: %v", left)
		}
	}
}

// ociDescription asks for a container and an archive, the image types with the fewest needs.
const ociDescription = `<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.4" name="web">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>S</specification></description>
  <preferences><version>1.0.0</version><packagemanager>apt</packagemanager>
    <type image="oci"><containerconfig name="web"/></type><type image="tar.zst"/></preferences>
  <repository type="apt-deb"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="image"><package name="web"/></packages>
</image>
`
