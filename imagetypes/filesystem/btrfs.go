package filesystem

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// Btrfs says how a btrfs file system is divided. Its zero value has the tree at the top level.
type Btrfs struct {
	// Root is the subvolume that the tree goes into, such as "@"; empty for the top level.
	Root string
	// Snapshot has the tree in the first snapshot of Root, as snapper lays it out: Root/.snapshots/1/snapshot.
	Snapshot bool
	// ReadOnly makes that snapshot read-only.
	ReadOnly bool
	// KeepDefault leaves the top level as what is mounted where no subvolume is asked for; else it is the one with the tree.
	KeepDefault bool
	// Quota switches quota groups on.
	Quota bool
	// Subvolumes hold parts of the tree.
	Subvolumes []Subvolume
}

// Subvolume is a subvolume of btrfs that holds a directory of the tree.
type Subvolume struct {
	Name  string // from the top of the file system, such as @/var/log
	Path  string // of the directory in the tree, such as var/log
	NoCOW bool   // without copy on write, and so without check sums and compression
	Quota string // the most that it may hold, as btrfs qgroup limit takes it, such as 5G; empty for no limit
}

// snapshots is where snapper has its snapshots, in the root.
const snapshots = ".snapshots"

// Tree returns the subvolume with the tree, or "" for the top level.
func (b Btrfs) Tree() string {
	if b.Snapshot {
		return path.Join(b.Root, snapshots, "1/snapshot")
	}
	return b.Root
}

// SnapshotsName returns the subvolume that is mounted at /.snapshots, or "" without snapshots.
func (b Btrfs) SnapshotsName() string {
	if !b.Snapshot {
		return ""
	}
	return path.Join(b.Root, snapshots)
}

func checkBtrfs(spec Spec) error {
	if len(spec.Label) > 255 {
		return fmt.Errorf("the label %q has %d bytes; btrfs file systems allow 255", spec.Label, len(spec.Label))
	}
	b := spec.Btrfs
	if b.Root != "" && !isBelow(b.Root) {
		return fmt.Errorf("%q is no name for a btrfs subvolume", b.Root)
	}
	if b.Snapshot && b.Root == "" {
		return fmt.Errorf("a root in a snapshot of btrfs needs a subvolume to take the snapshot of")
	}
	seen := map[string]bool{b.Root: true}
	for _, s := range b.Subvolumes {
		if !isBelow(s.Name) || !isBelow(s.Path) || seen[s.Name] || b.Snapshot && (s.Path == snapshots || strings.HasPrefix(s.Path, snapshots+"/")) {
			return fmt.Errorf("the btrfs subvolume %s for /%s: its name is no path, or in use", s.Name, s.Path)
		}
		if s.Quota != "" && !regexp.MustCompile(`^[0-9]+[kKmMgGtT]?$`).MatchString(s.Quota) {
			return fmt.Errorf("the btrfs subvolume %s: %q is no size", s.Name, s.Quota)
		}
		seen[s.Name] = true
	}
	return checkWords(spec.MkfsOptions)
}

// isBelow reports whether a path is clean and names something below where it begins.
func isBelow(name string) bool {
	return filepath.IsLocal(name) && path.Clean(name) == name && name != "." && !strings.ContainsAny(name, "\x00\n")
}

// sizeBtrfs counts the metadata twice, as mkfs.btrfs keeps it, and leaves room for the large chunks that space is given out in.
func sizeBtrfs(_ context.Context, _ Env, tree *layers.Tree, spec Spec) (int64, error) {
	need := estimate(tree, 2*1200) + spec.Free
	return max(need+need/8+192<<20, minBtr), nil
}

// btrfsArgs are the arguments for mkfs.btrfs, but for the disk.
func btrfsArgs(env Env, spec Spec) []string {
	args := []string{"-q", "-f", "-U", env.uuid(spec)}
	if spec.Label != "" {
		args = append(args, "-L", spec.Label)
	}
	return append(args, spec.MkfsOptions...)
}

func writeBtrfs(ctx context.Context, env Env, f *os.File, offset, size int64, tree *layers.Tree, spec Spec) error {
	script := "mkfs.btrfs " + shellLine(btrfsArgs(env, spec)) + ` $disk1
top=/tmp/top root=/tmp/top
mkdir $top
mount -t btrfs -o subvolid=5,` + spec.mountOptions() + ` $disk1 $top
` + spec.Btrfs.make(spec.mountOptions()) + spec.chattr() + extract + settle + spec.Btrfs.finish(env.Repro.Epoch.UTC().Format("2006-01-02 15:04:05")) + "btrfs filesystem sync $top\nbtrfs device stats -c $top >/dev/null\numount -R $top\nsync $disk1\n"
	return runKernel(ctx, env, f, offset, size, tree, spec, script, append(spec.chattrTool(), "mkfs.btrfs", "btrfs", "chattr", "chmod"))
}

// make makes the subvolumes and mounts them where the tree has their directories, with $root for its top. The file system itself is mounted at $top.
func (b Btrfs) make(options string) string {
	var s strings.Builder
	line := func(words ...string) { s.WriteString(strings.Join(words, " ") + "\n") }
	at := func(name string) string { return shellWord(path.Join("/tmp/top", name)) }
	if b.Quota || slices.ContainsFunc(b.Subvolumes, func(s Subvolume) bool { return s.Quota != "" }) {
		line("btrfs quota enable $top")
	}
	if b.Root != "" {
		line("mkdir -p", at(path.Dir(b.Root)))
		line("btrfs -q subvolume create", at(b.Root))
	}
	if b.Snapshot {
		line("btrfs -q subvolume create", at(b.SnapshotsName()))
		line("chmod 750", at(b.SnapshotsName()))
		line("mkdir", at(path.Join(b.SnapshotsName(), "1")))
		line("btrfs -q subvolume snapshot", at(b.Root), at(b.Tree()))
		// The name stands in the snapshot as an empty directory.
		line("mkdir -p", at(path.Join(b.Tree(), snapshots)))
		if b.Quota {
			line("btrfs qgroup create 1/0 $top") // for snapper's snapshots
		}
	}
	line("root=" + at(b.Tree()))
	if b.Tree() != "" && !b.KeepDefault {
		line("btrfs subvolume set-default \"$root\"")
	}
	for _, v := range byDepth(b.Subvolumes) {
		line("mkdir -p", at(path.Dir(v.Name)))
		line("btrfs -q subvolume create", at(v.Name))
		if v.NoCOW {
			line("chattr +C", at(v.Name))
		}
		if v.Quota != "" {
			line("btrfs qgroup limit", v.Quota, at(v.Name))
		}
		if place := path.Join(b.Tree(), v.Path); place != v.Name {
			line("mkdir -p", at(place))
			line("mount -t btrfs -o", options+",subvol="+shellWord(v.Name), "$disk1", at(place))
		}
	}
	return s.String()
}

// finish is what comes after the tree is there: what snapper knows of the snapshot, made at the given time.
func (b Btrfs) finish(date string) string {
	if !b.Snapshot {
		return ""
	}
	script := fmt.Sprintf(`printf '%%s\n' '<?xml version="1.0"?>' '<snapshot>' '  <type>single</type>' '  <num>1</num>' '  <date>%s</date>' '  <description>first root filesystem</description>' '</snapshot>' > "$top"/%s
`, date, shellWord(path.Join(b.SnapshotsName(), "1/info.xml")))
	if b.ReadOnly {
		script += "btrfs property set -ts \"$root\" ro true\n"
	}
	return script
}

// byDepth returns subvolumes with those first that others may lie in.
func byDepth(list []Subvolume) []Subvolume {
	return slices.SortedStableFunc(slices.Values(list), func(a, b Subvolume) int { return strings.Count(a.Path, "/") - strings.Count(b.Path, "/") })
}
