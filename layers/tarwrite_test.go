package layers

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

// entryText describes an entry in one line, for comparing what different programs read.
func entryText(name, kind string, perm, uid, gid, major, minor uint32, at Timespec, link string, xattrs []Xattr, content []byte) string {
	text := fmt.Sprintf("%q %s %o %d:%d %d,%d %d.%09d %q", name, kind, perm, uid, gid, major, minor, at.Sec, at.Nsec, link)
	for _, x := range xattrs {
		text += fmt.Sprintf(" %s=%q", x.Name, x.Value)
	}
	if kind == "file" {
		sum := sha256.Sum256(content)
		text += fmt.Sprintf(" %d %s", len(content), hex.EncodeToString(sum[:6]))
	}
	return text
}

// treeText describes every entry of a tree as a tar holds it.
func treeText(t testing.TB, tree *Tree) []string {
	t.Helper()
	var lines []string
	first := map[*Node]string{}
	err := tree.Walk(func(name string, n *Node) error {
		kind, link := TypeName(n.Mode), n.Target
		if n.IsRegular() {
			kind = "file"
		}
		var content []byte
		if old, ok := first[n]; ok && !n.IsDir() {
			lines = append(lines, entryText(name, "link", n.Perm(), n.UID, n.GID, 0, 0, n.MTime, old, n.Xattrs, nil))
			return nil
		}
		first[n] = name
		if n.IsRegular() {
			r, err := n.Open()
			if err != nil {
				return err
			}
			defer r.Close()
			if content, err = io.ReadAll(r); err != nil {
				return err
			}
		}
		lines = append(lines, entryText(name, kind, n.Perm(), n.UID, n.GID, n.Major, n.Minor, n.MTime, link, n.Xattrs, content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// goTarText describes a tar as Go's archive/tar reads it.
func goTarText(t testing.TB, r io.Reader) []string {
	t.Helper()
	kinds := map[byte]string{tar.TypeReg: "file", tar.TypeLink: "link", tar.TypeSymlink: TypeName(TypeSymlink), tar.TypeChar: TypeName(TypeChar),
		tar.TypeBlock: TypeName(TypeBlock), tar.TypeDir: TypeName(TypeDir), tar.TypeFifo: TypeName(TypeFIFO), tar.TypeGNUSparse: "file"}
	var lines []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatalf("%q: %v", h.Name, err)
		}
		var xattrs []Xattr
		for key, value := range h.PAXRecords {
			if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
				xattrs = append(xattrs, Xattr{strings.NewReplacer("%3D", "=", "%25", "%").Replace(name), value})
			}
		}
		lines = append(lines, entryText(Clean(h.Name), kinds[h.Typeflag], uint32(h.Mode), uint32(h.Uid), uint32(h.Gid), uint32(h.Devmajor),
			uint32(h.Devminor), TimespecOf(h.ModTime), h.Linkname, sortedXattrs(xattrs), content))
	}
}

func sortedXattrs(list []Xattr) []Xattr {
	n := &Node{Mode: TypeRegular}
	for _, x := range list {
		n.Xattrs = append(n.Xattrs, x)
	}
	for i := range n.Xattrs {
		for j := i; j > 0 && n.Xattrs[j].Name < n.Xattrs[j-1].Name; j-- {
			n.Xattrs[j], n.Xattrs[j-1] = n.Xattrs[j-1], n.Xattrs[j]
		}
	}
	return n.Xattrs
}

// withoutEmptyXattrs drops attributes without a value, since Go's archive/tar takes an empty record for a deletion.
func withoutEmptyXattrs(lines []string) []string {
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], ` user.empty=""`, "")
	}
	return lines
}

func TestWriteTarIsReadByGo(t *testing.T) {
	for _, sparse := range []bool{false, true} {
		for name, tree := range map[string]*Tree{"awkward": awkward(t), "random": randomTree(t, 1, 400)} {
			var out bytes.Buffer
			if err := WriteTar(t.Context(), &out, tree, TarOptions{Sparse: sparse}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(withoutEmptyXattrs(treeText(t, tree)), withoutEmptyXattrs(goTarText(t, &out))); diff != "" {
				t.Errorf("%s, sparse %v: Go reads something else (-tree +tar):\n%s", name, sparse, diff)
			}
		}
	}
}

func TestWriteTarSparseIsSmall(t *testing.T) {
	e := NewTree().Edit(Timespec{})
	if err := e.Put("huge", &Node{Mode: TypeRegular | 0o644, Size: 9 << 40, Data: []Extent{{8 << 40, 4}}, Content: Bytes("data")}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteTar(t.Context(), &out, e.Tree(), TarOptions{Sparse: true}); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 8<<10 {
		t.Errorf("a file of 9 TiB with 4 bytes of data takes %d bytes of tar", out.Len())
	}
	cmd := exec.Command(testenv.NeedProgram(t, "tar"), "-tvf", "-", "--numeric-owner")
	cmd.Stdin = &out
	list, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(list), " 9895604649984 ") {
		t.Errorf("GNU tar lists %q, %v", list, err)
	}
}

// A file of more than 8 GiB needs its size in an extended header. All of it is zeros, which nobody needs to keep.
func TestWriteTarLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes nine gigabytes of zeros")
	}
	const size = 8<<30 + 5
	e := NewTree().Edit(Timespec{})
	if err := e.Put("large", &Node{Mode: TypeRegular | 0o644, Size: size, Data: []Extent{}}); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(WriteTar(t.Context(), w, e.Tree(), TarOptions{})) }()
	defer r.Close()
	tr := tar.NewReader(r)
	for range 2 {
		h, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "large" && h.Size != size {
			t.Errorf("its size is %d", h.Size)
		}
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("after it comes %v", err)
	}
}
