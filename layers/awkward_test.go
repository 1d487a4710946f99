package layers

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// awkward is a tree with everything that is hard to carry: odd names, large ids, negative and far times, attributes, hard links of files, symbolic
// links and devices, holes, and names and targets too long for the fields of a tar header.
func awkward(t testing.TB) *Tree {
	t.Helper()
	e := NewTree().Edit(Timespec{Sec: 1_600_000_000, Nsec: 123_456_789})
	put := func(name string, n *Node) {
		t.Helper()
		if err := e.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	dir := func(name string, perm uint32) {
		put(name, &Node{Mode: TypeDir | perm, MTime: Timespec{Sec: 5, Nsec: 6}})
	}
	put(".", &Node{Mode: TypeDir | 0o755, UID: 3, GID: 4, MTime: Timespec{Sec: 77}})
	for _, d := range []string{"bin", "etc", "odd", "holes", "links", "nodes", "times"} {
		dir(d, 0o755)
	}
	dir("sticky", 0o1777)
	dir("closed", 0o000)
	put("bin/su", &Node{Mode: TypeRegular | 0o4755, Size: 3, Content: Bytes("su\n"), MTime: Timespec{Sec: 1}})
	put("bin/ping", &Node{Mode: TypeRegular | 0o755, Size: 4, Content: Bytes("ping"), Xattrs: []Xattr{
		{"security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}}})
	put("etc/acl", &Node{Mode: TypeRegular | 0o640, Size: 1, Content: Bytes("a"), Xattrs: []Xattr{
		{"system.posix_acl_access", "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x07\x00\x00\x00" +
			"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"}}})
	put("etc/owner", &Node{Mode: TypeRegular | 0o600, UID: 4_294_967_294, GID: 3_000_000, Size: 1, Content: Bytes("b")})
	put("etc/attr", &Node{Mode: TypeRegular | 0o600, Size: 1, Content: Bytes("c"), Xattrs: []Xattr{
		{"trusted.t=u%3D%", "x=y\n\x00z"}, {"user.empty", ""}, {"user.long", strings.Repeat("v", 1000)}}})
	put("odd/"+strings.Repeat("n", 255), NewFile([]byte("name of 255"), 0o644, e.ModTime))
	put("odd/line\nbreak", NewFile(nil, 0o644, e.ModTime))
	put("odd/\xff\xfe latin \xe9", NewFile([]byte("not utf-8"), 0o644, e.ModTime))
	put("odd/\xff"+strings.Repeat("\xe9", 200), NewFile([]byte("long and not utf-8"), 0o644, e.ModTime))
	put("odd/\u00fcn\u00efc\u00f6de", NewFile([]byte("utf-8"), 0o644, e.ModTime))
	put("odd/ blank * ? [ \\ ' \" $", NewFile([]byte("q"), 0o644, e.ModTime))
	put("odd/far", &Node{Mode: TypeSymlink | 0o777, Target: strings.Repeat("/target", 585)[:4000], MTime: e.ModTime})
	put("odd/bytes", &Node{Mode: TypeSymlink | 0o777, Target: "\xff\n\xfe", MTime: e.ModTime})
	deep := "odd"
	for i := range 12 {
		deep += fmt.Sprintf("/directory-%02d-%s", i, strings.Repeat("d", 30))
		dir(deep, 0o755)
	}
	put(deep+"/leaf", NewFile([]byte("deep"), 0o644, e.ModTime))
	big := strings.Repeat("0123456789abcdef", 1<<14)
	put("holes/middle", &Node{Mode: TypeRegular | 0o644, Size: 5 << 20, Data: []Extent{{0, 4096}, {4 << 20, 8192}}, Content: Bytes(big[:12288])})
	put("holes/end", &Node{Mode: TypeRegular | 0o644, Size: 1<<20 + 1, Data: []Extent{{8192, 4096}}, Content: Bytes(big[:4096])})
	put("holes/all", &Node{Mode: TypeRegular | 0o644, Size: 3 << 20, Data: []Extent{}})
	put("holes/none", &Node{Mode: TypeRegular | 0o644, Size: 1 << 18, Content: Bytes(big)})
	file := NewFile([]byte("many names"), 0o644, e.ModTime)
	link := &Node{Mode: TypeSymlink | 0o777, Target: "first", MTime: e.ModTime}
	put("links/first", file)
	put("links/second", file)
	put("bin/third", file)
	put("links/symlink", link)
	put("links/symlink2", link)
	put("links/"+strings.Repeat("l", 120), file)
	put("nodes/null", &Node{Mode: TypeChar | 0o666, Major: 1, Minor: 3, MTime: e.ModTime})
	put("nodes/disk", &Node{Mode: TypeBlock | 0o660, GID: 6, Major: 259, Minor: 1_048_575, MTime: e.ModTime})
	put("nodes/fifo", &Node{Mode: TypeFIFO | 0o600, UID: 1000, MTime: e.ModTime})
	for i, at := range []Timespec{{Sec: -1, Nsec: 500_000_000}, {Sec: -2}, {Sec: 0}, {Sec: 1 << 31}, {Sec: 1<<33 + 5, Nsec: 1}} {
		put(fmt.Sprintf("times/%d", i), NewFile([]byte("t"), 0o644, at))
	}
	return e.Tree()
}

// randomTree makes a tree of about the given number of entries, the same for the same seed. Its files, up to a mebibyte each, hold
// patterns that compress.
func randomTree(t testing.TB, seed uint64, entries int) *Tree {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 17))
	e := NewTree().Edit(Timespec{})
	dirs := []string{"."}
	var files []*Node
	when := func() Timespec { return Timespec{Sec: rnd.Int64N(1 << 31), Nsec: uint32(rnd.IntN(2) * rnd.IntN(1e9))} }
	for i := range entries {
		name := fmt.Sprintf("%s/%c%x", dirs[rnd.IntN(len(dirs))], 'a'+rune(rnd.IntN(26)), i)
		n := &Node{UID: uint32(rnd.IntN(3)), GID: uint32(rnd.IntN(70)), MTime: when()}
		perm := uint32(rnd.IntN(0o10000))
		switch k := rnd.IntN(20); {
		case k < 3:
			n.Mode = TypeDir | perm
			dirs = append(dirs, name)
		case k < 5:
			n.Mode, n.Target = TypeSymlink|0o777, strings.Repeat("../", rnd.IntN(4))+"x"
		case k == 5:
			n.Mode = TypeFIFO | perm
		case k < 8 && len(files) > 0:
			n = files[rnd.IntN(len(files))]
		case k == 8:
			n.Mode, n.Size = TypeRegular|perm, 1<<20
			n.Data = []Extent{{int64(rnd.IntN(100)) * 4096, 4096}, {int64(150+rnd.IntN(50)) * 4096, 8192}}
			n.Content = randomBytes(rnd, 12288)
		default:
			n.Mode, n.Size = TypeRegular|perm, int64(rnd.IntN(1<<rnd.IntN(20)))
			if n.Size > 0 {
				n.Content = randomBytes(rnd, int(n.Size))
			}
			files = append(files, n)
		}
		if rnd.IntN(5) == 0 && (n.IsRegular() || n.IsDir()) && n.Xattrs == nil {
			n.Xattrs = []Xattr{{"trusted.a", "1"}, {fmt.Sprintf("trusted.b%d", i), string(randomBytes(rnd, 20))}}
		}
		if err := e.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	return e.Tree()
}

func randomBytes(rnd *rand.Rand, size int) Bytes {
	data := make([]byte, size)
	word := rnd.Uint64()
	for i := range data {
		if i%64 == 0 {
			word = rnd.Uint64() >> rnd.IntN(64)
		}
		data[i] = byte(word >> (i % 8 * 8))
	}
	return data
}
