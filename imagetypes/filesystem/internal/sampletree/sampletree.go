// Package sampletree makes root trees for tests of file systems: one of everything, and random ones.
package sampletree

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/layers"
)

// Maker builds one tree. The same seed gives the same tree.
type Maker struct {
	t    testing.TB
	Edit *layers.Editor
	Rand *rand.Rand
}

// New begins a tree.
func New(t testing.TB, seed uint64) *Maker {
	return &Maker{t, layers.NewTree().Edit(layers.Timespec{Sec: 1700000000, Nsec: 123456789}), rand.New(rand.NewPCG(seed, 1))}
}

// Put places a node.
func (m *Maker) Put(name string, n *layers.Node) {
	m.t.Helper()
	if err := m.Edit.Put(name, n); err != nil {
		m.t.Fatal(err)
	}
}

// Dir makes a directory.
func (m *Maker) Dir(name string) {
	m.Put(name, &layers.Node{Mode: layers.TypeDir | 0o755, MTime: m.Time()})
}

// Time is a random moment that every inode of 256 bytes can hold.
func (m *Maker) Time() layers.Timespec {
	return layers.Timespec{Sec: m.Rand.Int64N(1 << 33), Nsec: m.Rand.Uint32N(1e9)}
}

// File makes a regular file of the given size.
func (m *Maker) File(size int) *layers.Node {
	data := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(data[i:], m.Rand.Uint64())
	}
	n := layers.NewFile(data, uint32(m.Rand.IntN(0o10000)), m.Time())
	n.UID, n.GID = m.Rand.Uint32N(1<<32-2), m.Rand.Uint32N(1<<32-2)
	return n
}

// Sparse makes a sparse file with pieces of data.
func (m *Maker) Sparse(size int64, pieces int) *layers.Node {
	n := &layers.Node{Mode: layers.TypeRegular | 0o644, MTime: m.Time(), Size: size, Data: []layers.Extent{}}
	var data []byte
	at := int64(0)
	for range pieces {
		at += 1 + m.Rand.Int64N(2*size/int64(pieces+1))
		length := 1 + m.Rand.Int64N(20000)
		if at+length > size {
			break
		}
		n.Data = append(n.Data, layers.Extent{Offset: at, Length: length})
		for range length {
			data = append(data, byte(1+m.Rand.IntN(255)))
		}
		at += length
	}
	n.Content = layers.Bytes(data)
	return n
}

// ACL is the value of an access control list with one named user and one named group.
func ACL(user, group uint32) string {
	p := binary.LittleEndian.AppendUint32(nil, 2)
	add := func(tag, perm uint16, id uint32) {
		p = binary.LittleEndian.AppendUint16(p, tag)
		p = binary.LittleEndian.AppendUint16(p, perm)
		p = binary.LittleEndian.AppendUint32(p, id)
	}
	none := ^uint32(0)
	add(0x01, 6, none)
	add(0x02, 7, user)
	add(0x04, 4, none)
	add(0x08, 5, group)
	add(0x10, 7, none)
	add(0x20, 0, none)
	return string(p)
}

// Variety puts one of everything below dir.
func (m *Maker) Variety(dir string) {
	m.Dir(dir)
	at := func(name string) string { return dir + "/" + name }
	m.Put(at("empty"), layers.NewFile(nil, 0o600, m.Time()))
	for _, size := range []int{1, 59, 60, 1023, 1024, 4095, 4096, 4097, 12 * 4096, 13 * 4096, 300000, 5 << 20} {
		m.Put(at(fmt.Sprintf("file%d", size)), m.File(size))
	}
	setuid := m.File(100)
	setuid.Mode = layers.TypeRegular | 0o6755
	setuid.Xattrs = []layers.Xattr{{Name: "security.capability", Value: "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}}
	m.Put(at("setuid"), setuid)
	linked := m.File(5000)
	m.Put(at("linked"), linked)
	m.Put(at("linked too"), linked)
	for _, length := range []int{1, 58, 59, 60, 61, 1000} {
		m.Put(at(fmt.Sprintf("link%d", length)), &layers.Node{Mode: layers.TypeSymlink | 0o777, Target: strings.Repeat("t", length), MTime: m.Time()})
	}
	m.Put(at("null"), &layers.Node{Mode: layers.TypeChar | 0o666, Major: 1, Minor: 3, MTime: m.Time()})
	m.Put(at("disk"), &layers.Node{Mode: layers.TypeBlock | 0o660, Major: 259, Minor: 70000, GID: 6, MTime: m.Time()})
	m.Put(at("minor"), &layers.Node{Mode: layers.TypeBlock | 0o660, Major: 8, Minor: 256, MTime: m.Time()})
	m.Put(at("fifo"), &layers.Node{Mode: layers.TypeFIFO | 0o644, MTime: m.Time()})
	m.Put(at("sparse"), m.Sparse(10<<20, 20))
	m.Put(at("hole"), &layers.Node{Mode: layers.TypeRegular | 0o644, Size: 1 << 20, Data: []layers.Extent{}})
	m.Put(at(strings.Repeat("n", 255)), m.File(10))
	m.Put(at("new\nline \xff\x01\"quoted\""), m.File(10))
	attributes := m.File(10)
	attributes.Mode = layers.TypeRegular | 0o670 // as the list says
	attributes.Xattrs = []layers.Xattr{
		{Name: "security.selinux", Value: "system_u:object_r:bin_t:s0\x00"},
		{Name: "system.posix_acl_access", Value: ACL(1000, 100000)},
		{Name: "trusted.some", Value: ""},
		{Name: "user.large", Value: strings.Repeat("large", 100)},
		{Name: "user.small", Value: "x"},
	}
	m.Put(at("attributes"), attributes)
	same := m.File(11)
	same.Mode = attributes.Mode
	same.Xattrs = attributes.Xattrs
	m.Put(at("same attributes"), same)
	m.Put(at("default acl"), &layers.Node{Mode: layers.TypeDir | 0o1670, MTime: m.Time(), Xattrs: []layers.Xattr{
		{Name: "system.posix_acl_access", Value: ACL(1, 2)}, {Name: "system.posix_acl_default", Value: ACL(3, 4)},
	}})
	m.Put(at("before 1970"), &layers.Node{Mode: layers.TypeRegular | 0o644, MTime: layers.Timespec{Sec: -1000, Nsec: 999999999}})
}

// Random fills the directory dir, which must exist, with about count entries of all kinds, some in directories of directories. Names consist of
// any bytes but, if plain is set, of letters and digits.
func (m *Maker) Random(dir string, count int, plain bool) {
	dirs := []string{dir}
	var files []string
	for range count {
		parent := dirs[m.Rand.IntN(len(dirs))]
		name := m.name(plain)
		if parent != "." {
			name = parent + "/" + name
		}
		if _, err := m.Edit.Lookup(name); err == nil {
			continue
		}
		if m.Rand.IntN(6) == 0 {
			m.Dir(name)
			dirs = append(dirs, name)
			continue
		}
		if m.Rand.IntN(10) == 0 && len(files) > 0 {
			if err := m.Edit.Link(files[m.Rand.IntN(len(files))], name); err != nil {
				m.t.Fatal(err)
			}
			continue
		}
		m.Put(name, m.randomNode())
		files = append(files, name)
	}
}

func (m *Maker) name(plain bool) string {
	length := 1 + m.Rand.IntN(20)
	if m.Rand.IntN(20) == 0 {
		length = 1 + m.Rand.IntN(255)
	}
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	name := make([]byte, length)
	for i := range name {
		name[i] = letters[m.Rand.IntN(len(letters))]
		if !plain {
			for name[i] = 0; name[i] == 0 || name[i] == '/' || name[i] == '.'; {
				name[i] = byte(m.Rand.IntN(256))
			}
		}
	}
	return string(name)
}

func (m *Maker) randomNode() *layers.Node {
	var n *layers.Node
	switch m.Rand.IntN(10) {
	case 0:
		n = &layers.Node{Mode: layers.TypeSymlink | 0o777, Target: strings.Repeat("x", 1+m.Rand.IntN(200)), MTime: m.Time()}
	case 1:
		types := []uint32{layers.TypeChar, layers.TypeBlock, layers.TypeFIFO}
		n = &layers.Node{Mode: types[m.Rand.IntN(3)] | 0o640, MTime: m.Time()}
		if n.IsDevice() {
			n.Major, n.Minor = m.Rand.Uint32N(1<<12), m.Rand.Uint32N(1<<20)
		}
	case 2:
		n = m.Sparse(1+m.Rand.Int64N(3<<20), m.Rand.IntN(12))
	default:
		n = m.File(m.Rand.IntN(1 << m.Rand.IntN(18)))
	}
	for i := range m.Rand.IntN(8) - 4 {
		n.Xattrs = append(n.Xattrs, layers.Xattr{Name: fmt.Sprintf("security.x%d", i), Value: strings.Repeat("v", m.Rand.IntN(100))})
	}
	return n
}
