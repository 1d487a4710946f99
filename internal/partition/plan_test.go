package partition

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

func ids() repro.Source { return repro.New(time.Unix(1700000000, 0), "test") }

func uefiSpec() Spec {
	return Spec{Scheme: GPT, Partitions: []Want{
		{Name: "p.legacy", Type: BIOSBoot(), Size: 2 << 20, Attributes: AttrRequired},
		{Name: "p.UEFI", Type: ESP(), Size: 20 << 20},
		{Name: "p.lxroot", Type: Root("x86_64"), Size: 500<<20 + 1, Rest: true},
	}}
}

func TestLayoutGolden(t *testing.T) {
	mbr := Spec{Scheme: MBR, Partitions: []Want{
		{Name: "p.swap", Type: Swap(), Size: 128 << 20},
		{Name: "p.lxroot", Type: Linux(), Size: 1 << 30, Boot: true},
	}}
	hybrid := uefiSpec()
	hybrid.SectorSize, hybrid.DiskSize, hybrid.Unpartitioned = 4096, 2<<30, 100<<20
	hybrid.Partitions[2].Hybrid = true
	var got strings.Builder
	for _, spec := range []Spec{uefiSpec(), mbr, hybrid} {
		p, err := Layout(spec, ids())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&got, p)
	}
	golden := filepath.Join("testdata", "plans.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("plans differ from %s; UPDATE_GOLDEN=1 writes it anew\n%s", golden, diff)
	}
}

func TestDiskTooSmall(t *testing.T) {
	spec := uefiSpec()
	spec.DiskSize = 100 << 20
	_, err := Layout(spec, ids())
	var small *TooSmallError
	if !errors.As(err, &small) {
		t.Fatalf("got %v", err)
	}
	if want := int64(1+2+20+501+1) << 20; small.Need != want {
		t.Errorf("needs %d, want %d", small.Need, want)
	}
	spec.DiskSize = small.Need
	if _, err := Layout(spec, ids()); err != nil {
		t.Errorf("a disk of the size asked for: %v", err)
	}
}

func TestValidateFindsBadPlans(t *testing.T) {
	good := func() *Plan {
		p, err := Layout(uefiSpec(), ids())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, spoil := range map[string]func(*Plan){
		"overlap":        func(p *Plan) { p.Partitions[1].Start -= Align },
		"outside":        func(p *Plan) { p.Partitions[2].Size += 2 * Align },
		"in the table":   func(p *Plan) { p.Partitions[0].Start = 512 },
		"odd size":       func(p *Plan) { p.Partitions[0].Size-- },
		"number twice":   func(p *Plan) { p.Partitions[1].Number = 1 },
		"long name":      func(p *Plan) { p.Partitions[1].Name = strings.Repeat("x", 37) },
		"bad GUID":       func(p *Plan) { p.Partitions[1].GUID = "xyz" },
		"sector size":    func(p *Plan) { p.SectorSize = 1024 },
		"hybrid unknown": func(p *Plan) { p.Hybrid = []int{9} },
	} {
		p := good()
		spoil(p)
		if err := p.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Layout(Spec{Scheme: MBR, Partitions: make([]Want, 5)}, ids()); err == nil {
		t.Error("five primary partitions in an MBR: no error")
	}
}

// write makes a disk of the plan in a sparse file, with boot code that must survive.
func write(t *testing.T, p *Plan) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(p.DiskSize); err != nil {
		t.Fatal(err)
	}
	bootCode := []byte(strings.Repeat("B", 440))
	if _, err := f.WriteAt(bootCode, 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Write(f); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 440)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != string(bootCode) {
		t.Errorf("the boot code is not what it was (%v)", err)
	}
	return path
}

// sfdiskTable is what sfdisk --json says.
type sfdiskTable struct {
	PartitionTable struct {
		Label, ID  string
		SectorSize int64
		Partitions []struct {
			Start, Size      int64
			Type, UUID, Name string
			Attrs            string
			Bootable         bool
		}
	}
}

func sfdisk(t *testing.T, path string) sfdiskTable {
	t.Helper()
	var table sfdiskTable
	if err := json.Unmarshal([]byte(testenv.Run(t, "sfdisk", "--json", path)), &table); err != nil {
		t.Fatal(err)
	}
	return table
}

func TestForeignReaders(t *testing.T) {
	testenv.NeedPrograms(t, "sgdisk", "sfdisk")
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 30 {
		spec := randomSpec(random)
		p, err := Layout(spec, ids())
		if err != nil {
			t.Fatal(err)
		}
		path := write(t, p)
		if out := testenv.Run(t, "sfdisk", "--verify", path); !strings.Contains(out, "No errors detected") {
			t.Errorf("plan %d: sfdisk --verify says %s\n%s", i, out, p)
		}
		if p.Scheme == GPT {
			if out := testenv.Run(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
				t.Errorf("plan %d: sgdisk -v says %s\n%s", i, out, p)
			}
		}
		compare(t, p, sfdisk(t, path))
	}
}

func compare(t *testing.T, p *Plan, table sfdiskTable) {
	t.Helper()
	listed := table.PartitionTable.Partitions
	if p.Scheme == MBR {
		if want := fmt.Sprintf("0x%08x", p.Signature); table.PartitionTable.ID != want {
			t.Errorf("disk id %s, want %s", table.PartitionTable.ID, want)
		}
		if i := slices.IndexFunc(p.Partitions, func(q Partition) bool { return q.Logical }); i >= 0 {
			listed = slices.Delete(slices.Clone(listed), i, i+1) // the extended partition itself
		}
	} else if !strings.EqualFold(table.PartitionTable.ID, p.DiskGUID) {
		t.Errorf("disk id %s, want %s", table.PartitionTable.ID, p.DiskGUID)
	}
	if len(listed) != len(p.Partitions) {
		t.Fatalf("sfdisk sees %d partitions, the plan has %d:\n%s", len(listed), len(p.Partitions), p)
	}
	for i, q := range p.Partitions {
		got := listed[i]
		kind := q.Type.GUID
		if p.Scheme == MBR {
			kind = strconv.FormatInt(int64(q.Type.MBR), 16)
		}
		if got.Start*p.SectorSize != q.Start || got.Size*p.SectorSize != q.Size || !strings.EqualFold(got.Type, kind) {
			t.Errorf("sfdisk sees %+v, the plan has %+v", got, q)
		}
		if p.Scheme == GPT && (got.Name != q.Name || !strings.EqualFold(got.UUID, q.GUID) || (q.Attributes&AttrRequired != 0) != strings.Contains(got.Attrs, "RequiredPartition")) {
			t.Errorf("sfdisk sees %+v, the plan has %+v", got, q)
		}
		if got.Bootable != q.Boot && p.Scheme == MBR {
			t.Errorf("boot flag of %s is %v", q.Name, got.Bootable)
		}
	}
}

func randomSpec(random *rand.Rand) Spec {
	spec := Spec{Scheme: Scheme(random.IntN(2)), SectorSize: 512, Unpartitioned: random.Int64N(3 << 20)}
	if random.IntN(3) == 0 {
		spec.FirstStart = 4 << 20
	}
	count := 1 + random.IntN(9)
	if spec.Scheme == MBR {
		spec.Logical = count > 4
	}
	types := []Type{Linux(), Swap(), ESP(), RAID(), LVM(), PReP(), XBOOTLDR(), Root("aarch64"), Root("x86_64")}
	for i := range count {
		spec.Partitions = append(spec.Partitions, Want{
			Name: fmt.Sprintf("p.%d-\u00e4\u65e5", i), Type: types[random.IntN(len(types))], Size: random.Int64N(50 << 20),
			Attributes: uint64(random.IntN(2)), Boot: i == 1 && spec.Scheme == MBR, Hybrid: false,
		})
	}
	spec.Partitions[count-1].Rest = true
	if random.IntN(2) == 0 {
		spec.DiskSize = 20 << 30
	}
	return spec
}

func TestHybridMBR(t *testing.T) {
	testenv.NeedPrograms(t, "sgdisk", "sfdisk")
	spec := uefiSpec()
	spec.Partitions[1].Hybrid, spec.Partitions[2].Hybrid = true, true
	p, err := Layout(spec, ids())
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, p)
	if out := testenv.Run(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v says %s", out)
	}
	out := testenv.Run(t, "sfdisk", "--label-nested", "dos", "--list", path)
	for _, want := range []string{"ee GPT", "ef EFI", "83 Linux"} {
		if !strings.Contains(out, want) {
			t.Errorf("the hybrid MBR lacks %q: %s", want, out)
		}
	}
}

func TestSectorsOf4096Bytes(t *testing.T) {
	spec := uefiSpec()
	spec.SectorSize = 4096
	p, err := Layout(spec, ids())
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, p)
	out := testenv.Run(t, "fdisk", "-b", "4096", "--list", "-o", "Start,Sectors,UUID,Name", path)
	for _, q := range p.Partitions {
		want := []string{fmt.Sprint(q.Start / 4096), fmt.Sprint(q.Size / 4096), strings.ToUpper(q.GUID), q.Name}
		if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool { return slices.Equal(strings.Fields(line), want) }) {
			t.Errorf("fdisk does not see %q:\n%s", want, out)
		}
	}
}

func TestSameInputsSameBytes(t *testing.T) {
	var sums []string
	for range 2 {
		p, err := Layout(uefiSpec(), ids())
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(write(t, p))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, string(data[:1<<20])+string(data[len(data)-1<<20:]))
	}
	if sums[0] != sums[1] {
		t.Error("two disks of one plan differ")
	}
}
