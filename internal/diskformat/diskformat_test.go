package diskformat

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

func ids() repro.Source { return repro.New(time.Unix(1700000000, 0), "test") }

// disk makes a sparse file with runs of text, of noise and of zeros.
func disk(t testing.TB, size int64, seed uint64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	for at := int64(0); at < size; {
		n := min(1+random.Int64N(1<<uint(8+random.IntN(14))), size-at)
		data := make([]byte, n)
		switch random.IntN(4) {
		case 0:
			for i := range data {
				data[i] = "the quick brown fox jumps over the lazy dog\n"[i%44]
			}
		case 1:
			for i := range data {
				data[i] = byte(random.Uint32())
			}
		case 2: // written zeros
		default:
			at += 8 * n
			continue
		}
		if _, err := f.WriteAt(data, at); err != nil {
			t.Fatal(err)
		}
		at += n
	}
	if _, err := f.WriteAt([]byte("end"), size-3); err != nil {
		t.Fatal(err)
	}
	return f
}

func sum(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

type variant struct {
	format  string
	qemu    string // the format's name in qemu-img
	check   bool   // qemu-img check knows the format
	options []Option
}

func variants() []variant {
	return []variant{
		{"raw", "raw", false, nil},
		{"qcow2", "qcow2", true, nil},
		{"qcow2", "qcow2", true, []Option{{"compression", "off"}}},
		{"qcow2", "qcow2", true, []Option{{"compression_type", "zlib"}, {"cluster_size", "4k"}}},
		{"qcow2", "qcow2", true, []Option{{"cluster_size", "512"}}},
		{"qcow2", "qcow2", true, []Option{{"cluster_size", "2M"}}},
		{"vdi", "vdi", true, nil},
		{"vhd", "vpc", false, nil},
		{"vhd-fixed", "vpc", false, nil},
		{"vhdx", "vhdx", true, nil},
		{"vhdx", "vhdx", true, []Option{{"block_size", "8388608"}}},
		{"vmdk", "vmdk", true, nil},
		{"vmdk", "vmdk", true, []Option{{"subformat", "streamOptimized"}, {"adapter_type", "lsilogic"}}},
	}
}

func TestQEMUReadsWhatIsWritten(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img")
	for seed, size := range []int64{1 << 20, 37 << 20} {
		raw := disk(t, size, uint64(seed))
		for _, v := range variants() {
			t.Run(fmt.Sprintf("%s%v/%d", v.format, v.options, size>>20), func(t *testing.T) {
				format, err := Lookup(v.format)
				if err != nil {
					t.Fatal(err)
				}
				var sums []string
				for run := range 2 {
					path := filepath.Join(t.TempDir(), "image."+format.Extension)
					if err := format.Write(t.Context(), raw, size, path, Settings{Options: v.options, IDs: ids(), Jobs: 1 + 3*run}); err != nil {
						t.Fatal(err)
					}
					sums = append(sums, sum(t, path))
					if run > 0 {
						continue
					}
					testenv.Run(t, "qemu-img", "compare", "-f", "raw", "-F", v.qemu, raw.Name(), path)
					if v.check {
						if out := testenv.Run(t, "qemu-img", "check", "-f", v.qemu, path); !strings.Contains(out, "No errors were found") {
							t.Errorf("qemu-img check says %s", out)
						}
					}
				}
				if sums[0] != sums[1] {
					t.Error("two runs gave different bytes")
				}
			})
		}
	}
}

func TestHolesStayHoles(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img")
	const size = 4 << 30
	raw := disk(t, 1<<20, 7)
	if err := raw.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, v := range variants() {
		format, err := Lookup(v.format)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "image")
		if err := format.Write(t.Context(), raw, size, path, Settings{Options: v.options, IDs: ids()}); err != nil {
			t.Fatal(err)
		}
		var info struct {
			VirtualSize int64 `json:"virtual-size"`
			ActualSize  int64 `json:"actual-size"`
		}
		if err := json.Unmarshal([]byte(testenv.Run(t, "qemu-img", "info", "-f", v.qemu, "--output", "json", path)), &info); err != nil {
			t.Fatal(err)
		}
		if info.VirtualSize != size || info.ActualSize > 12<<20 {
			t.Errorf("%s %v: virtual size %d, %d bytes on the disk", v.format, v.options, info.VirtualSize, info.ActualSize)
		}
	}
}

func TestQcow2SaysHowItIsCompressed(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img")
	raw := disk(t, 1<<20, 3)
	format, err := Lookup("qcow2")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"zstd", "zlib"} {
		path := filepath.Join(t.TempDir(), kind)
		if err := format.Write(t.Context(), raw, 1<<20, path, Settings{Options: []Option{{"compression_type", kind}}, IDs: ids()}); err != nil {
			t.Fatal(err)
		}
		if out := testenv.Run(t, "qemu-img", "info", path); !strings.Contains(out, "compression type: "+kind) {
			t.Errorf("qemu-img info says %s", out)
		}
	}
}

// TestManyTinyClusters packs so many compressed clusters into one of the host that its count of references would overflow.
func TestManyTinyClusters(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img")
	const size = 8 << 20
	raw, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write(bytes.Repeat([]byte{1}, size)); err != nil {
		t.Fatal(err)
	}
	format, err := Lookup("qcow2")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.qcow2")
	if err := format.Write(t.Context(), raw, size, path, Settings{Options: []Option{{"cluster_size", "512"}}, IDs: ids()}); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "qemu-img", "check", path)
	testenv.Run(t, "qemu-img", "compare", raw.Name(), path)
}

func TestPlaceKeepsReferenceCountsSmall(t *testing.T) {
	q := &qcow2{clusterSize: 2 << 20, next: 2 << 20, refs: []uint16{1}}
	for range 200000 {
		q.place(20)
	}
	for i, n := range q.refs {
		if n > qcow2MaxRefs {
			t.Errorf("cluster %d has %d references", i, n)
		}
	}
}

func TestVHDFixedTag(t *testing.T) {
	raw := disk(t, 2<<20, 5)
	format, err := Lookup("vhd-fixed")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.vhdfixed")
	if err := format.Write(t.Context(), raw, 2<<20, path, Settings{Tag: "12345678-9abc-def0-1122-334455667788", IDs: ids()}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := append([]byte{0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}, make([]byte, 496)...)
	if got := data[64<<10 : 64<<10+512]; !bytes.Equal(got, want) {
		t.Errorf("the tag is % x", got[:32])
	}
	if err := format.Write(t.Context(), raw, 2<<20, path+"2", Settings{Tag: "nonsense", IDs: ids()}); err == nil {
		t.Error("a tag that is no GUID was taken")
	}
}

func TestVHDGeometry(t *testing.T) {
	// The examples are what qemu-img gives for disks of these sizes.
	for _, c := range []struct {
		mib             int64
		cylinders       uint16
		heads, perTrack uint8
	}{{1, 30, 4, 17}, {100, 1003, 12, 17}, {1024, 2080, 16, 63}, {200 << 10, 65535, 16, 255}} {
		cylinders, heads, perTrack := vhdGeometry(c.mib << 11)
		if cylinders != c.cylinders && c.mib != 200<<10 || heads != c.heads || perTrack != c.perTrack {
			t.Errorf("%d MiB: %d/%d/%d, want %d/%d/%d", c.mib, cylinders, heads, perTrack, c.cylinders, c.heads, c.perTrack)
		}
	}
}

func TestBadOptions(t *testing.T) {
	raw := disk(t, 1<<20, 1)
	for _, c := range []struct {
		format string
		option Option
	}{
		{"qcow2", Option{"cluster_size", "3k"}}, {"qcow2", Option{"cluster_size", "4M"}}, {"qcow2", Option{"compression_type", "xz"}},
		{"qcow2", Option{"compression", "maybe"}}, {"vhdx", Option{"block_size", "1"}},
	} {
		format, err := Lookup(c.format)
		if err != nil {
			t.Fatal(err)
		}
		settings := Settings{Options: []Option{c.option}, IDs: ids()}
		if err := format.Check(settings); err == nil || !strings.Contains(err.Error(), c.option.Name) {
			t.Errorf("checking %s %v: %v", c.format, c.option, err)
		}
		err = format.Write(t.Context(), raw, 1<<20, filepath.Join(t.TempDir(), "x"), settings)
		if err == nil || !strings.Contains(err.Error(), c.option.Name) {
			t.Errorf("%s %v: %v", c.format, c.option, err)
		}
	}
	if _, err := Lookup("floppy"); err == nil {
		t.Error("there is a format floppy")
	}
}

func TestOtherOptionsGoToQEMU(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img")
	raw := disk(t, 4<<20, 2)
	for _, c := range []struct {
		format string
		option Option
		qemu   string
	}{
		{"qcow2", Option{"lazy_refcounts", "on"}, "qcow2"}, {"vmdk", Option{"subformat", "monolithicFlat"}, "vmdk"}, {"vdi", Option{"static", "on"}, "vdi"},
	} {
		format, err := Lookup(c.format)
		if err != nil {
			t.Fatal(err)
		}
		if got := format.Needs([]Option{c.option}); got != "qemu-img" {
			t.Errorf("%s %v needs %q", c.format, c.option, got)
		}
		path := filepath.Join(t.TempDir(), "image."+format.Extension)
		if err := format.Write(t.Context(), raw, 4<<20, path, Settings{Options: []Option{c.option}, IDs: ids()}); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, "qemu-img", "compare", "-f", "raw", "-F", c.qemu, raw.Name(), path)
	}
}
