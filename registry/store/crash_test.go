package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestMain lets the test binary be the other process of a test.
func TestMain(m *testing.M) {
	if job := os.Getenv("STORE_TEST_JOB"); job != "" {
		if err := otherProcess(job, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// otherProcess is what another process does in the store args[0].
func otherProcess(job string, args []string) error {
	ctx := context.Background()
	s, err := Open(args[0], Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	var t testing.T // for its methods that report nothing unless something fails
	switch job {
	case "grow": // NAME SEED COUNT: add COUNT layers to NAME
		seed, _ := strconv.Atoi(args[2])
		count, _ := strconv.Atoi(args[3])
		for i := range count {
			err := s.Update(ctx, args[1], func(_ context.Context, old v1.Image) (v1.Image, error) {
				return testImage(&t, old, uint64(seed+i), 5000), nil
			})
			if err != nil {
				return err
			}
		}
	case "churn": // SEED: for ever put, tag, remove, prune; say each name that was put
		seed, _ := strconv.Atoi(args[1])
		for i := 0; ; i++ {
			if err := churn(ctx, s, &t, uint64(seed), i); err != nil {
				return err
			}
		}
	case "prune":
		for range 20 {
			if _, err := s.Prune(ctx, PruneOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func churn(ctx context.Context, s *Store, t *testing.T, seed uint64, i int) error {
	name := fmt.Sprintf("n%d:%d", seed, i)
	if err := s.PutImage(ctx, name, testImage(t, testImage(t, nil, 1, 300_000), seed+uint64(i), 20_000)); err != nil {
		return err
	}
	fmt.Println(name)
	if err := s.Tag(ctx, name, "shared"); err != nil {
		return err
	}
	if i%3 == 2 {
		if _, err := s.Prune(ctx, PruneOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func start(t *testing.T, job string, args ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "STORE_TEST_JOB="+job)
	var out strings.Builder
	cmd.Stdout = &out
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out
}

// TestManyProcesses lets eight processes add layers to the same and to different names while another prunes: nothing may be lost.
func TestManyProcesses(t *testing.T) {
	const processes, count = 8, 4
	dir := t.TempDir()
	var all []*exec.Cmd
	for i := range processes {
		name := "shared"
		if i%2 == 1 {
			name = fmt.Sprintf("own%d", i)
		}
		cmd, _ := start(t, "grow", dir, name, strconv.Itoa(i*100), strconv.Itoa(count))
		all = append(all, cmd)
	}
	cmd, _ := start(t, "prune", dir)
	for _, cmd := range append(all, cmd) {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	s := openTest(t, dir)
	checkWhole(t, s)
	got := map[string]int{}
	entries, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got[e.FullName()] = e.Layers
	}
	want := map[string]int{"shared:latest": processes / 2 * count}
	for i := 1; i < processes; i += 2 {
		want[fmt.Sprintf("own%d:latest", i)] = count
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestKilled kills a writing process at random moments: every name that it had finished is there and whole, and nothing stays behind.
func TestKilled(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 10
	}
	dir := t.TempDir()
	var want []string
	for i := range rounds {
		cmd, out := start(t, "churn", dir, strconv.Itoa(1000*i+7))
		time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		lines := strings.Split(out.String(), "\n")
		want = append(want, lines[:len(lines)-1]...)
	}
	s := openTest(t, dir)
	checkWhole(t, s)
	have := map[string]bool{}
	for _, name := range names(t, s) {
		have[name] = true
	}
	for _, name := range want {
		if !have[name] {
			t.Errorf("%s is lost", name)
		}
	}
	t.Logf("%d names were put in %d rounds", len(want), rounds)
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"tmp", "partial"} {
		if left, err := os.ReadDir(s.path(sub)); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", sub, left, err)
		}
	}
	checkWhole(t, s)
	checkNothingLoose(t, s)
}

// checkNothingLoose fails the test if the store holds a blob that no name leads to.
func checkNothingLoose(t *testing.T, s *Store) {
	t.Helper()
	cas, err := s.reader()
	if err != nil {
		t.Fatal(err)
	}
	index, err := cas.GetIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keep := map[digest.Digest]bool{}
	if err := s.mark(t.Context(), index.Manifests, keep, 0); err != nil {
		t.Fatal(err)
	}
	blobs, err := cas.ListBlobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range blobs {
		if !keep[d] {
			t.Errorf("no name leads to blob %s", d)
		}
	}
}

// TestFullDisk fills a small file system: writing fails with the reason, what was there stays whole, and names can be removed.
func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		testenv.Missing(t, "mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ctx := t.Context()
	s, err := Open(filepath.Join(dir, "store"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var stored []string
	for i := 0; ; i++ {
		name := fmt.Sprintf("a:%03d", i)
		err := s.PutImage(ctx, name, testImage(t, nil, uint64(i), 300_000))
		if err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("a full disk gave %v", err)
			}
			t.Log(err)
			break
		}
		stored = append(stored, name)
	}
	if err := s.PutIndex(ctx, digest.Digest("sha256:"+strings.Repeat("0", 64)), func(w io.Writer) error {
		_, err := w.Write(make([]byte, 4<<20))
		return err
	}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("an index on a full disk gave %v", err)
	}
	fill(t, filepath.Join(dir, "other"))
	if diff := cmp.Diff(stored, names(t, s)); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Image(ctx, stored[0]); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	if err := s.Remove(ctx, stored[0]); err != nil {
		t.Errorf("removing on a full disk: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, filepath.Join(dir, "store"))
	checkWhole(t, s)
	report, err := s.Prune(ctx, PruneOptions{})
	if err != nil || report.Bytes < 300_000 {
		t.Errorf("pruning on a full disk: %+v, %v", report, err)
	}
	if err := s.PutImage(ctx, "b", testImage(t, nil, 500, 200_000)); err != nil {
		t.Error(err)
	}
	checkWhole(t, s)
}

// fill writes a file until the disk is full to the last byte.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 16; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// TestPartial goes on with a blob whose transfer broke, in another process's place, and waits for one under way.
func TestPartial(t *testing.T) {
	ctx := t.Context()
	s := openTest(t, t.TempDir())
	data := randomBytes(5, 100_000)
	img := testImage(t, nil, 5, len(data))
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := layers[0].Digest()
	desc := v1.Descriptor{Digest: sum, Size: int64(len(data))}

	p, err := s.Partial(ctx, desc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(data[:40_000]); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Partial(short, desc); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the same blob twice: %v", err)
	}
	if err := p.Commit(); err == nil {
		t.Error("half a blob was committed")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := s.Prune(ctx, PruneOptions{PartialAge: time.Hour}); err != nil || report.Partials != 0 {
		t.Errorf("a fresh partial was pruned: %+v, %v", report, err)
	}
	p, err = s.Partial(ctx, desc)
	if err != nil {
		t.Fatal(err)
	}
	kept := make([]byte, p.Size())
	if _, err := p.ReadAt(kept, 0); err != nil || !cmp.Equal(kept, data[:40_000]) {
		t.Errorf("%d bytes kept, %v", len(kept), err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := s.Partial(ctx, desc); !errors.Is(err, ErrBlobExists) {
			t.Errorf("waiting for a blob that came: %v", err)
		}
	})
	time.Sleep(20 * time.Millisecond)
	if err := p.Truncate(30_000); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(data[30_000:]); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	waiting.Wait()
	if left, err := os.ReadDir(s.path("partial")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if err := s.PutImage(ctx, "a", img); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, s)
}

// TestPartialPruned removes parts that nobody works on, and leaves the others.
func TestPartialPruned(t *testing.T) {
	ctx := t.Context()
	s := openTest(t, t.TempDir())
	open := func(c string) *Partial {
		p, err := s.Partial(ctx, v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(c, 64)}, Size: 10})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		return p
	}
	busy := open("a")
	defer busy.Close()
	if err := open("b").Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := s.Prune(ctx, PruneOptions{}); err != nil || report.Bytes != 4 {
		t.Errorf("%+v, %v", report, err)
	}
	if left, err := os.ReadDir(s.path("partial")); err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
