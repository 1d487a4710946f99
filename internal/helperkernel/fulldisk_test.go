package helperkernel

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestFullDisk is a file system that is larger than what this machine's disk has left: the helper kernel notices when it writes back what it has in memory,
// and the programs in it don't.
func TestFullDisk(t *testing.T) {
	testenv.NeedProgram(t, "mkfs.xfs")
	for kind, spec := range kinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			f, err := os.Create(filepath.Join(testenv.SmallDir(t, "76m"), "disk"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Truncate(320 << 20); err != nil {
				t.Fatal(err)
			}
			spec.Name, spec.Timeout = "writing", 2*time.Minute
			spec.Disks = []Disk{{File: f}}
			spec.Modules = []string{"xfs"}
			spec.Programs = []string{"mkfs.xfs", "mkdir", "mount", "umount", "head"}
			spec.Script = "mkfs.xfs -q $disk1\nmkdir /tmp/m\nmount -t xfs $disk1 /tmp/m\nhead -c 30000000 /dev/zero >/tmp/m/file\numount /tmp/m\n"
			output, err := Run(t.Context(), spec)
			var failed *WriteError
			if !errors.As(err, &failed) {
				t.Errorf("error is %v; it said %q", err, output)
			}
		})
	}
}
