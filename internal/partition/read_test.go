package partition

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestReadWhatWasWritten reads random tables back.
func TestReadWhatWasWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 60 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			plan, err := Layout(randomSpec(random), ids())
			if err != nil {
				t.Skip(err)
			}
			f, err := os.Open(write(t, plan))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, err := Read(f, plan.DiskSize)
			if err != nil {
				t.Fatal(err)
			}
			want := *plan
			want.Hybrid = nil
			want.Partitions, want.DiskGUID = nil, strings.ToUpper(want.DiskGUID)
			for _, p := range plan.Partitions {
				p.GUID = strings.ToUpper(p.GUID)
				if plan.Scheme == MBR {
					p.Type, p.Name, p.GUID, p.Attributes = typeOfByte(p.Type.MBR), "", "", 0
				} else {
					p.Type, p.Boot = typeOf(p.Type.GUID), false
				}
				want.Partitions = append(want.Partitions, p)
			}
			if want.Scheme == MBR {
				want.SectorSize, want.DiskGUID = 512, ""
			}
			if plan.Scheme == MBR && plan.SectorSize != 512 {
				t.Skip("an MBR does not say how large its sectors are")
			}
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReadForeignTable reads what sfdisk has written, logical partitions included, and a GPT from its copy.
func TestReadForeignTable(t *testing.T) {
	testenv.NeedPrograms(t, "sfdisk")
	for kind, script := range map[string]string{
		"dos": `label: dos\n,4M,c,*\n,4M,82\n,,5\n,4M,83\n,4M,83\n`,
		"gpt": `label: gpt\n,4M,U,,name=EFI\n,4M,L\n`,
	} {
		disk := t.TempDir() + "/disk"
		testenv.Run(t, "sh", "-c", "truncate -s 32M "+disk+" && printf '"+script+"' | sed 's/,name=EFI/,/' | sfdisk -q "+disk)
		data, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		for _, damaged := range []bool{false, true} {
			if damaged && kind == "gpt" {
				data[512+60]++
			}
			plan, err := Read(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			numbers := map[string][]int{"dos": {1, 2, 5, 6}, "gpt": {1, 2}}[kind]
			var got []int
			for _, p := range plan.Partitions {
				got = append(got, p.Number)
				if p.Size != 4<<20 {
					t.Errorf("%s: partition %d has %d bytes", kind, p.Number, p.Size)
				}
			}
			if diff := cmp.Diff(numbers, got); diff != "" {
				t.Errorf("%s: %s", kind, diff)
			}
		}
	}
	if _, err := Read(bytes.NewReader(make([]byte, 1<<20)), 1<<20); !errors.Is(err, ErrNoTable) {
		t.Error(err)
	}
}

func FuzzReadTable(f *testing.F) {
	for _, spec := range []Spec{uefiSpec(), {Scheme: MBR, Logical: true, Partitions: []Want{
		{Type: Linux(), Size: 1 << 20}, {Type: Linux(), Size: 1 << 20}, {Type: Linux(), Size: 1 << 20}, {Type: Linux(), Size: 1 << 20}, {Type: Linux(), Size: 1 << 20},
	}}} {
		plan, err := Layout(spec, ids())
		if err != nil {
			f.Fatal(err)
		}
		disk := make(memory, plan.DiskSize)
		if err := plan.Write(disk); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(disk[:40<<10]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		plan, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		for _, p := range plan.Partitions {
			if p.Start <= 0 || p.Size <= 0 || p.End() > int64(len(data)) {
				t.Errorf("partition %+v is outside of %d bytes", p, len(data))
			}
		}
	})
}

// memory is a disk in memory.
type memory []byte

func (m memory) WriteAt(p []byte, at int64) (int, error) { return copy(m[at:], p), nil }
