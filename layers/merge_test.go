package layers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// collidingTree makes a random tree from so few names, sizes and times that several of them clash in every way there is. Files of one size and
// time have one content only if honest is set.
func collidingTree(t testing.TB, seed uint64, entries int, honest bool) *Tree {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 99))
	e := NewTree().Edit(Timespec{})
	when := func() Timespec {
		return Timespec{Sec: 1_600_000_000 + int64(rnd.IntN(3)), Nsec: uint32(rnd.IntN(2)) * 5000}
	}
	perms := []uint32{0o755, 0o644, 0o700}
	if err := e.Put(".", &Node{Mode: TypeDir | perms[rnd.IntN(3)], MTime: when()}); err != nil {
		t.Fatal(err)
	}
	dirs := []string{"."}
	var files []*Node
	for range entries {
		name := path.Join(dirs[rnd.IntN(len(dirs))], string('a'+rune(rnd.IntN(5))))
		old, _ := e.Lookup(name)
		if old != nil && old.IsDir() {
			continue
		}
		n := &Node{Mode: perms[rnd.IntN(3)], UID: uint32(rnd.IntN(2)), MTime: when()}
		switch k := rnd.IntN(12); {
		case k < 4 && strings.Count(name, "/") < 3:
			n.Mode |= TypeDir
			dirs = append(dirs, name)
		case k < 5:
			n.Mode, n.Target = TypeSymlink|0o777, []string{"a", "b", "c/d", ".", "../a", "../b/a"}[rnd.IntN(4+2*min(1, strings.Count(name, "/")))]
		case k < 6:
			n.Mode |= TypeFIFO
		case k < 7:
			n.Mode |= TypeChar
			n.Major, n.Minor = 1, uint32(3+2*rnd.IntN(2))
		case k < 9 && len(files) > 0:
			n = files[rnd.IntN(len(files))]
		default:
			n.Mode |= TypeRegular
			n.Size = int64(rnd.IntN(3))
			if n.Size > 0 {
				digit := byte('0' + seed%10)
				if honest {
					digit = byte('0' + n.MTime.Sec%10)
				}
				n.Content = Bytes(bytes.Repeat([]byte{digit}, int(n.Size)))
			}
			files = append(files, n)
		}
		if n.Xattrs == nil && rnd.IntN(4) == 0 && (n.IsRegular() || n.IsDir()) {
			n.Xattrs = []Xattr{{"trusted.x", fmt.Sprint(rnd.IntN(3))}}
		}
		if err := e.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	return e.Tree()
}

// rsynced puts directories on top of each other with rsync itself.
func rsynced(t testing.TB, trees []*Tree, flags ...string) *Tree {
	t.Helper()
	dest := hostDir(t)
	for _, tree := range trees {
		dir, _ := written(t, tree, DirOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "rsync", append([]string{"--archive", "--hard-links", "--acls", "--xattrs"}, append(flags, dir+"/", dest+"/")...)...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 23) { // 23: some entries could not be put in place
			t.Fatalf("rsync: %v\n%s", err, out)
		}
	}
	return scanned(t, dest)
}

// wholeSeconds is treeText without fractions of seconds, which rsync sets or not depending on what else it changes.
func wholeSeconds(t testing.TB, tree *Tree) []string {
	fraction := regexp.MustCompile(`\.\d{9} `)
	lines := treeText(t, tree)
	for i := range lines {
		lines[i] = fraction.ReplaceAllString(lines[i], " ")
	}
	return lines
}

// blocksHardLink reports whether a directory is in the way of one of several hard links. rsync 3 waits for itself then, or gives up.
func blocksHardLink(trees []*Tree, clashes []Clash) bool {
	for _, c := range clashes {
		if c.Kind != ClashKept {
			continue
		}
		for _, names := range hardLinks(trees[c.Took]) {
			if slices.Contains(names, c.Path) {
				return true
			}
		}
	}
	return false
}

func testMergeAgainstRsync(t *testing.T, rule MergeRule, text func(testing.TB, *Tree) []string, flags ...string) {
	testenv.NeedRealRoot(t)
	testenv.NeedProgram(t, "rsync")
	compared := 0
	for seed := range uint64(28) {
		var trees []*Tree
		for i := range 2 + seed%2 {
			trees = append(trees, collidingTree(t, seed*10+i, 4+int(seed)/2, rule == RuleFollow))
		}
		merged, clashes, err := Merge(trees, MergeOptions{Rule: rule})
		if err != nil {
			t.Fatal(err)
		}
		if blocksHardLink(trees, clashes) {
			continue
		}
		compared++
		if diff := cmp.Diff(text(t, rsynced(t, trees, flags...)), text(t, merged)); diff != "" {
			t.Fatalf("seed %d: not what rsync makes (-rsync +merged):\n%s", seed, diff)
		}
	}
	if compared < 15 {
		t.Errorf("only %d merges could be compared", compared)
	}
}

func TestMergeEqualsRsync(t *testing.T) { testMergeAgainstRsync(t, RuleRsync, wholeSeconds) }

// With --keep-dirlinks rsync follows links as RuleFollow does, but it leaves directories that it reached through one with the time of its run, and changes attributes of the
// link itself as well.
func TestMergeFollowsLinksLikeRsync(t *testing.T) {
	attributes := regexp.MustCompile(`( directory | symbolic link 777 ).*? \d{8,} `)
	testMergeAgainstRsync(t, RuleFollow, func(t testing.TB, tree *Tree) []string {
		lines := wholeSeconds(t, tree)
		for i := range lines {
			lines[i] = attributes.ReplaceAllString(lines[i], "$1")
		}
		return lines
	}, "--keep-dirlinks")
}

func TestMergeTellsWhatClashed(t *testing.T) {
	at := Timespec{Sec: 100}
	tree := func(edit func(e *Editor) error) *Tree {
		e := NewTree().Edit(at)
		if err := edit(e); err != nil {
			t.Fatal(err)
		}
		return e.Tree()
	}
	base := tree(func(e *Editor) error {
		return errors.Join(e.WriteFile("usr/lib/a", []byte("base"), 0o644), e.Symlink("usr/lib", "lib"), e.WriteFile("etc/same", []byte("same"), 0o644),
			e.WriteFile("etc/taken", []byte("one"), 0o644), e.WriteFile("var/full/x", nil, 0o644), e.MkdirAll("var/empty", 0o755), e.Symlink("nowhere", "gone"))
	})
	top := tree(func(e *Editor) error {
		return errors.Join(e.WriteFile("lib/b", []byte("top"), 0o644), e.WriteFile("etc/same", []byte("same"), 0o644), e.WriteFile("etc/taken", []byte("three"), 0o644),
			e.WriteFile("var/full", []byte("file"), 0o644), e.WriteFile("var/empty", []byte("file"), 0o644), e.MkdirAll("gone", 0o755))
	})
	for rule, want := range map[MergeRule][]Clash{
		RuleFollow: {
			{"etc/taken", ClashReplaced, 0, 1, "file"}, {"gone", ClashType, 0, 1, "symbolic link by directory"}, {"lib", ClashFollowed, 0, 1, "usr/lib"},
			{"var/empty", ClashType, 0, 1, "directory by file"}, {"var/full", ClashKept, 0, 1, "directory, not replaced by file"},
		},
		RuleRsync: {
			{"etc/taken", ClashReplaced, 0, 1, "file"}, {"gone", ClashType, 0, 1, "symbolic link by directory"},
			{"lib", ClashType, 0, 1, "symbolic link by directory"},
			{"var/empty", ClashType, 0, 1, "directory by file"}, {"var/full", ClashKept, 0, 1, "directory, not replaced by file"},
		},
	} {
		merged, clashes, err := Merge([]*Tree{base, top}, MergeOptions{Rule: rule})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, clashes); diff != "" {
			t.Errorf("rule %s (-want +got):\n%s", rule, diff)
		}
		if _, err := merged.Lookup("usr/lib/b"); (err == nil) != (rule == RuleFollow) {
			t.Errorf("rule %s: usr/lib/b: %v", rule, err)
		}
		if got, err := merged.ReadFile("etc/taken", 100); err != nil || string(got) != "three" {
			t.Errorf("rule %s: etc/taken holds %q, %v", rule, got, err)
		}
	}
}
