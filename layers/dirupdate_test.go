package layers

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"golang.org/x/sys/unix"
)

// randomEdits changes a tree here and there.
func randomEdits(t testing.TB, tree *Tree, seed uint64, count int) *Tree {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 3))
	e := tree.Edit(Timespec{Sec: 1_700_000_000, Nsec: 1})
	for i := range count {
		var names []string
		if err := e.Tree().Walk(func(name string, n *Node) error {
			if name != "." {
				names = append(names, name)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		name := names[rnd.IntN(len(names))]
		n, err := e.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		fresh := fmt.Sprintf("%s/new-%d", filepath.Dir(name), i)
		switch rnd.IntN(8) {
		case 0:
			err = e.Remove(name)
		case 1:
			err = e.Put(fresh, n) // a hard link, or a whole directory in a second place
			if n.IsDir() {
				err = e.Remove(fresh)
			}
		case 2:
			err = e.Change(name, func(n *Node) {
				if !n.IsSymlink() {
					n.Mode ^= 0o011
				}
			})
		case 3:
			err = e.Change(name, func(n *Node) { n.Xattrs = []Xattr{{"trusted.new", "v"}} })
		case 4:
			err = e.Change(name, func(n *Node) { n.UID, n.Xattrs = 77, nil })
		case 5:
			err = e.Put(fresh, NewFile([]byte(fresh), 0o640, Timespec{Sec: int64(i)}))
		case 6: // something of another type in its place
			if err = e.Remove(name); err == nil {
				err = e.Put(name, &Node{Mode: TypeSymlink | 0o777, Target: "elsewhere"})
			}
			if n.IsRegular() {
				err = e.Put(name, &Node{Mode: TypeDir | 0o751})
			}
		default:
			if err = e.Remove(name); err == nil { // moved
				err = e.Put(fresh, n)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return e.Tree()
}

func TestUpdateDirMakesTheOtherTree(t *testing.T) {
	testenv.NeedRealRoot(t)
	for seed := range uint64(12) {
		from := randomTree(t, 100+seed, 150)
		to := randomEdits(t, from, seed, 1+int(seed)*4)
		dir, _ := written(t, from, DirOptions{})
		report, err := UpdateDir(t.Context(), dir, from, to, nil)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if len(report.Unheld) > 0 {
			t.Errorf("seed %d: not held: %v", seed, report.Unheld)
		}
		sameTree(t, fmt.Sprintf("seed %d", seed), to, scanned(t, dir))
	}
}

// The contents of the new tree lie in the very directory that is changed.
func TestUpdateDirFromItself(t *testing.T) {
	testenv.NeedRealRoot(t)
	for seed := range uint64(6) {
		dir, _ := written(t, randomTree(t, 200+seed, 150), DirOptions{})
		from := scanned(t, dir)
		to := randomEdits(t, from, seed, 30)
		want := treeText(t, to)
		if _, err := UpdateDir(t.Context(), dir, from, to, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got := treeText(t, scanned(t, dir))
		if len(want) != len(got) {
			t.Fatalf("seed %d: %d entries, want %d", seed, len(got), len(want))
		}
		for i := range want {
			if want[i] != got[i] {
				t.Errorf("seed %d: got %s, want %s", seed, got[i], want[i])
			}
		}
	}
}

func TestUpdateDirLeavesTheRestAlone(t *testing.T) {
	testenv.NeedRealRoot(t)
	e := NewTree().Edit(Timespec{Sec: 9})
	for i := range 20 {
		if err := e.WriteFile(fmt.Sprintf("d%d/file", i%4), []byte{byte(i)}, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	from := e.Tree()
	dir, _ := written(t, from, DirOptions{})
	inode := func(name string) (ino uint64, ctime unix.Timespec) {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino, st.Ctim
	}
	names := []string{".", "d0", "d0/file", "d1", "d2/file"}
	before := map[string]string{}
	for _, name := range names {
		ino, ctime := inode(name)
		before[name] = fmt.Sprint(ino, ctime)
	}
	if err := e.WriteFile("d2/other", []byte("o"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Change("d1/file", func(n *Node) { n.Mode = TypeRegular | 0o600 }); err != nil {
		t.Fatal(err)
	}
	inoOf1, _ := inode("d1/file")
	if _, err := UpdateDir(t.Context(), dir, from, e.Tree(), nil); err != nil {
		t.Fatal(err)
	}
	sameTree(t, "updated", e.Tree(), scanned(t, dir))
	for _, name := range names[1:] {
		if ino, ctime := inode(name); before[name] != fmt.Sprint(ino, ctime) {
			t.Errorf("%s was touched", name)
		}
	}
	if ino, _ := inode("d1/file"); ino != inoOf1 {
		t.Error("a change of a mode made a new inode")
	}
}

func TestRescanPutsBack(t *testing.T) {
	testenv.NeedRealRoot(t)
	tree := awkward(t)
	dir, _ := written(t, tree, DirOptions{})
	// What an ordinary user's directory lacks, made here by hand.
	report := &DirReport{}
	for _, name := range []string{"nodes/null", "nodes/disk", "sticky/gone"} {
		if name != "sticky/gone" {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			report.Unheld = append(report.Unheld, Unheld{Path: name, Entry: true})
		}
	}
	for _, name := range []string{"bin/ping", "etc/attr"} {
		n, err := tree.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range n.Xattrs {
			if err := unix.Lremovexattr(filepath.Join(dir, name), x.Name); err != nil {
				t.Fatal(err)
			}
			report.Unheld = append(report.Unheld, Unheld{Path: name, Xattr: x.Name})
		}
	}
	owner := filepath.Join(dir, "etc/owner")
	if err := os.Lchown(owner, 0, 0); err != nil {
		t.Fatal(err)
	}
	report.Unheld = append(report.Unheld, Unheld{Path: "etc/owner", Owner: true})
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "nodes"), []unix.Timespec{{Sec: 5, Nsec: 6}, {Sec: 5, Nsec: 6}}, 0); err != nil {
		t.Fatal(err)
	}
	got, notes, err := Rescan(t.Context(), dir, tree, report)
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	sameTree(t, "put back", tree, got)

	// What programs have removed or replaced stays as they left it.
	for _, step := range []error{
		os.WriteFile(filepath.Join(dir, "nodes/null"), []byte("a file"), 0o644),
		os.WriteFile(filepath.Join(dir, "bin/ping"), []byte("another program"), 0o755),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	got, _, err = Rescan(t.Context(), dir, tree, report)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := got.Lookup("nodes/null"); err != nil || !n.IsRegular() {
		t.Errorf("a file in the place of a device became %v, %v", n, err)
	}
	if n, err := got.Lookup("bin/ping"); err != nil || len(n.Xattrs) > 0 {
		t.Errorf("a new program has the capabilities of the old one: %v, %v", n, err)
	}
}
