package ext4

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/layers"
)

// treeMaker makes trees for tests.
type treeMaker struct {
	t    testing.TB
	edit *layers.Editor
	rand *rand.Rand
}

func newTreeMaker(t testing.TB, seed uint64) *treeMaker {
	return &treeMaker{t, layers.NewTree().Edit(layers.Timespec{Sec: 1700000000, Nsec: 123456789}), rand.New(rand.NewPCG(seed, 1))}
}

func (m *treeMaker) put(name string, n *layers.Node) {
	m.t.Helper()
	if err := m.edit.Put(name, n); err != nil {
		m.t.Fatal(err)
	}
}

func (m *treeMaker) dir(name string) {
	m.put(name, &layers.Node{Mode: layers.TypeDir | 0o755, MTime: m.time()})
}

func (m *treeMaker) time() layers.Timespec {
	return layers.Timespec{Sec: m.rand.Int64N(1 << 33), Nsec: m.rand.Uint32N(1e9)}
}

// file makes a regular file of the given size.
func (m *treeMaker) file(size int) *layers.Node {
	data := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(data[i:], m.rand.Uint64())
	}
	n := layers.NewFile(data, uint32(m.rand.IntN(0o10000)), m.time())
	n.UID, n.GID = m.rand.Uint32N(1<<32-2), m.rand.Uint32N(1<<32-2)
	return n
}

// sparse makes a sparse file with pieces of data that are not aligned to anything.
func (m *treeMaker) sparse(size int64, pieces int) *layers.Node {
	n := &layers.Node{Mode: layers.TypeRegular | 0o644, MTime: m.time(), Size: size, Data: []layers.Extent{}}
	var data []byte
	at := int64(0)
	for range pieces {
		at += 1 + m.rand.Int64N(2*size/int64(pieces+1))
		length := 1 + m.rand.Int64N(20000)
		if at+length > size {
			break
		}
		n.Data = append(n.Data, layers.Extent{Offset: at, Length: length})
		for range length {
			data = append(data, byte(1+m.rand.IntN(255)))
		}
		at += length
	}
	n.Content = layers.Bytes(data)
	return n
}

func (m *treeMaker) xattrs(names ...string) []layers.Xattr {
	var list []layers.Xattr
	for _, name := range names {
		list = append(list, layers.Xattr{Name: name, Value: strings.Repeat("v", m.rand.IntN(60))})
	}
	return list
}

// acl is the value of an access control list with one named user and one named group.
func acl(user, group uint32) string {
	p := binary.LittleEndian.AppendUint32(nil, 2)
	add := func(tag, perm uint16, id uint32) {
		p = binary.LittleEndian.AppendUint16(p, tag)
		p = binary.LittleEndian.AppendUint16(p, perm)
		p = binary.LittleEndian.AppendUint32(p, id)
	}
	none := ^uint32(0)
	add(aclUserObj, 6, none)
	add(aclUser, 7, user)
	add(aclGroupObj, 4, none)
	add(aclGroup, 5, group)
	add(aclMask, 7, none)
	add(aclOther, 0, none)
	return string(p)
}

// variety puts one of everything below dir.
func (m *treeMaker) variety(dir string) {
	m.dir(dir)
	at := func(name string) string { return dir + "/" + name }
	m.put(at("empty"), layers.NewFile(nil, 0o600, m.time()))
	for _, size := range []int{1, 59, 60, 1023, 1024, 4095, 4096, 4097, 12 * 4096, 13 * 4096, 300000, 5 << 20} {
		m.put(at(fmt.Sprintf("file%d", size)), m.file(size))
	}
	setuid := m.file(100)
	setuid.Mode = layers.TypeRegular | 0o6755
	setuid.Xattrs = []layers.Xattr{{Name: "security.capability", Value: "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}}
	m.put(at("setuid"), setuid)
	linked := m.file(5000)
	m.put(at("linked"), linked)
	m.put(at("linked too"), linked)
	for _, length := range []int{1, 58, 59, 60, 61, 1000} {
		m.put(at(fmt.Sprintf("link%d", length)), &layers.Node{Mode: layers.TypeSymlink | 0o777, Target: strings.Repeat("t", length), MTime: m.time()})
	}
	m.put(at("null"), &layers.Node{Mode: layers.TypeChar | 0o666, Major: 1, Minor: 3, MTime: m.time()})
	m.put(at("disk"), &layers.Node{Mode: layers.TypeBlock | 0o660, Major: 259, Minor: 70000, GID: 6, MTime: m.time()})
	m.put(at("minor"), &layers.Node{Mode: layers.TypeBlock | 0o660, Major: 8, Minor: 256, MTime: m.time()})
	m.put(at("fifo"), &layers.Node{Mode: layers.TypeFIFO | 0o644, MTime: m.time()})
	m.put(at("sparse"), m.sparse(10<<20, 20))
	m.put(at("hole"), &layers.Node{Mode: layers.TypeRegular | 0o644, Size: 1 << 20, Data: []layers.Extent{}})
	m.put(at(strings.Repeat("n", 255)), m.file(10))
	m.put(at("new\nline \xff\x01\"quoted\""), m.file(10))
	attributes := m.file(10)
	attributes.Xattrs = []layers.Xattr{
		{Name: "security.selinux", Value: "system_u:object_r:bin_t:s0\x00"},
		{Name: "system.posix_acl_access", Value: acl(1000, 100000)},
		{Name: "trusted.some", Value: ""},
		{Name: "user.large", Value: strings.Repeat("large", 100)},
		{Name: "user.small", Value: "x"},
	}
	m.put(at("attributes"), attributes)
	same := m.file(11)
	same.Xattrs = attributes.Xattrs
	m.put(at("same attributes"), same)
	m.put(at("default acl"), &layers.Node{Mode: layers.TypeDir | 0o1777, MTime: m.time(), Xattrs: []layers.Xattr{
		{Name: "system.posix_acl_access", Value: acl(1, 2)}, {Name: "system.posix_acl_default", Value: acl(3, 4)},
	}})
	m.put(at("before 1970"), &layers.Node{Mode: layers.TypeRegular | 0o644, MTime: layers.Timespec{Sec: -1000, Nsec: 999999999}})
}
