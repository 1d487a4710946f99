package filesystem

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

func request(t *testing.T, kind string) *image.Request {
	t.Helper()
	edit := smallTree(t).Edit(layers.Timespec{Sec: 1})
	if err := edit.WriteFile("image/config.xml", []byte("<image/>"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := &description.Image{}
	d.Type.Image = kind
	d.Type.RootFSLabel = "ROOT"
	return &image.Request{Tree: edit.Tree(), Description: d, BaseName: "Test.x86_64-1.0.0", Dir: t.TempDir(), Repro: testEnv().Repro}
}

func TestBuilder(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck", "debugfs", "unsquashfs")
	for kind, read := range map[string][]string{
		"ext2": {"debugfs", "-R", "ls /"}, "ext4": {"debugfs", "-R", "ls /"}, "squashfs": {"unsquashfs", "-ls"},
	} {
		t.Run(kind, func(t *testing.T) {
			var sums []string
			for range 2 {
				r := request(t, kind)
				if err := (Builder{}).Check(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				plan, err := Builder{}.Plan(t.Context(), r)
				if err != nil || !strings.Contains(plan, "Test.x86_64-1.0.0."+kind) {
					t.Errorf("plan %q, %v", plan, err)
				}
				results, err := Builder{}.Build(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if len(results) != 1 || results[0].File != "Test.x86_64-1.0.0."+kind || results[0].Key != image.KeyFilesystemImage {
					t.Errorf("%+v", results)
				}
				name := filepath.Join(r.Dir, results[0].File)
				out := testenv.Run(t, read[0], append(read[1:], name)...)
				if !strings.Contains(out, "etc") || strings.Contains(out, "image") {
					t.Errorf("%s", out)
				}
				if left, err := os.ReadDir(r.Dir); err != nil || len(left) != 1 {
					t.Errorf("left behind: %v, %v", left, err)
				}
				f, err := os.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				sums = append(sums, hash(t, f))
				f.Close()
			}
			if sums[0] != sums[1] {
				t.Error("two builds gave different bytes")
			}
		})
	}
}

func TestBuilderSize(t *testing.T) {
	testenv.NeedProgram(t, "mke2fs")
	for _, c := range []struct {
		asked *description.Size
		want  func(size int64) bool
	}{
		{&description.Size{MB: 200}, func(size int64) bool { return size == 200<<20 }},
		{&description.Size{MB: 300, Additive: true}, func(size int64) bool { return size > 305<<20 && size < 340<<20 }},
		{nil, func(size int64) bool { return size > 70<<20 && size < 100<<20 }},
	} {
		r := request(t, "ext4")
		r.Description.Type.Size = c.asked
		if _, err := (Builder{}).Build(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(r.Dir, "Test.x86_64-1.0.0.ext4"))
		if err != nil || !c.want(info.Size()) {
			t.Errorf("size %d for %+v, %v", info.Size(), c.asked, err)
		}
	}
}

func TestRefused(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "mkfs.xfs", "mkfs.btrfs")
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Type: "zfs"}, `"zfs" is none of ext2, ext3, ext4, xfs, btrfs, reiserfs, squashfs, erofs, cramfs`},
		{Spec{Type: "ext4", Label: "a label that is too long"}, "has 24 bytes; ext4 file systems allow 16"},
		{Spec{Type: "xfs", Label: "thirteen byte"}, "allow 12"},
		{Spec{Type: "ext4", UUID: "no"}, `"no" is no UUID`},
		{Spec{Type: "ext4", MkfsOptions: []string{"-d", "/"}}, "-d can't be used: the root tree is written without it"},
		{Spec{Type: "ext4", MkfsOptions: []string{"-O"}}, "-O needs a value"},
		{Spec{Type: "ext4", MkfsOptions: []string{"/dev/sda"}}, `"/dev/sda" is no option`},
		{Spec{Type: "xfs", MkfsOptions: []string{"/dev/sda"}}, `"/dev/sda" is no mkfs option`},
		{Spec{Type: "btrfs", Btrfs: Btrfs{Root: "a//b"}}, `"a//b" is no name for a btrfs subvolume`},
		{Spec{Type: "btrfs", Btrfs: Btrfs{Root: "../b"}}, `is no name for a btrfs subvolume`},
		{Spec{Type: "squashfs", Compression: "best"}, `"best" is no compression of squashfs`},
	} {
		if err := Check(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, not %q", c.spec, err, c.want)
		}
	}
}

func TestParseOptions(t *testing.T) {
	options, err := parseOptions([]string{"-vm0", "-E", "a=1", "-Oquota", "-E", "b"}, mke2fsOptions)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(arguments(options), " "); got != "-v -m 0 -E a=1 -O quota -E b" {
		t.Errorf("%q", got)
	}
	if last, ok := value(options, 'E'); !ok || last != "b" {
		t.Errorf("%q, %v", last, ok)
	}
	for _, bad := range [][]string{{"--help"}, {"-"}, {"x"}, {"-k"}, {"-N"}, {"-:"}} {
		if _, err := parseOptions(bad, mke2fsOptions); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{"a-b=c,d": "a-b=c,d", "it's $x": `'it'\''s $x'`, "": "''"} {
		if got := shellWord(word); got != want {
			t.Errorf("%q became %q", word, got)
		}
	}
}
