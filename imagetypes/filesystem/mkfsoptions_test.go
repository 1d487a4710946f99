package filesystem

import (
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

const someUUID = "12345678-1234-1234-1234-123456789abc"

// TestIdentityInOptions makes file systems whose label and identifier are given as options of their tools, and asks blkid.
func TestIdentityInOptions(t *testing.T) {
	testenv.NeedPrograms(t, "blkid", "mke2fs", "mkfs.xfs", "mkfs.btrfs", "mkreiserfs", "mkfs.erofs", "mkfs.cramfs")
	needKernel(t)
	for kind, options := range map[string]string{
		"ext4": "-qL Options -U " + someUUID, "xfs": "-L Options -m crc=1,uuid=" + someUUID, "btrfs": "--label=Options --uuid " + someUUID,
		"reiserfs": "-l Options -u " + someUUID, "erofs": "-U" + someUUID, "cramfs": "-n Options",
	} {
		t.Run(kind, func(t *testing.T) {
			typ := &description.Type{Image: kind, FSCreateOptions: strings.Fields(options)}
			spec, err := SpecOf(typ, kind)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckOptions(t.Context(), typ, spec); err != nil {
				t.Fatal(err)
			}
			tree := smallTree(t)
			size, err := Size(t.Context(), testEnv(), tree, spec)
			if err != nil {
				t.Fatal(err)
			}
			f := newFile(t)
			if err := Write(t.Context(), testEnv(), f, 0, size, tree, spec); err != nil {
				t.Fatal(err)
			}
			found := testenv.Run(t, "blkid", "-p", "-o", "export", f.Name())
			if kind != "erofs" && (spec.Label != "Options" || !strings.Contains(found, "LABEL=Options\n")) {
				t.Errorf("the label of the spec is %q, and blkid says %s", spec.Label, found)
			}
			if kind != "cramfs" && (spec.UUID != someUUID || !strings.Contains(found, "\nUUID="+someUUID+"\n")) {
				t.Errorf("the identifier of the spec is %q, and blkid says %s", spec.UUID, found)
			}
		})
	}
}

// TestOptionsThatContradict refuses what can't both be.
func TestOptionsThatContradict(t *testing.T) {
	for _, c := range []struct{ kind, label, options, want string }{
		{"ext4", "ROOT", "-L other", `the file system's label is "other" in fscreateoptions, and "ROOT" in rootfs_label; leave one of them out`},
		{"xfs", "ROOT", "-Lother", `"ROOT" in rootfs_label`},
		{"xfs", "", "-m uuid=1", `"1" is no UUID; it looks like 0123`},
		{"ext2", "", "-U clear", `"clear" is no UUID`},
	} {
		_, err := SpecOf(&description.Type{RootFSLabel: c.label, FSCreateOptions: strings.Fields(c.options)}, c.kind)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error is %v", c, err)
		}
	}
	if spec, err := SpecOf(&description.Type{RootFSLabel: "ROOT", FSCreateOptions: []string{"-U", "random", "-L", "ROOT"}}, "ext4"); err != nil || spec.UUID != "" || spec.Label != "ROOT" {
		t.Errorf("%+v, %v", spec, err)
	}
}

// TestOptionsAreTried refuses options that a tool does not take, in a few words.
func TestOptionsAreTried(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "mkfs.xfs", "mkfs.btrfs", "mkreiserfs", "mkfs.erofs", "mkfs.cramfs", "mksquashfs")
	for _, c := range []struct{ kind, options, compression, want string }{
		{"ext3", "-O nonsense", "", `mke2fs does not take "-O nonsense": Invalid filesystem option set: nonsense; see the manual page mke2fs(8)`},
		{"ext4", "-E nonsense=1", "", "Bad option(s) specified: nonsense"},
		{"xfs", "-Q", "", "unknown option -Q"},
		{"btrfs", "--checksum nonsense", "", "nonsense"},
		{"reiserfs", "--nonsense", "", "nonsense"},
		{"erofs", "--nonsense", "", "nonsense"},
		{"erofs", "", "lz4hc,99", `mkfs.erofs does not take "lz4hc,99"`},
		{"squashfs", "-Xnonsense", "", `mksquashfs does not take "-Xnonsense": mksquashfs: Unrecognised compressor option -Xnonsense; see`},
		{"cramfs", "-b nonsense", "", "invalid blocksize argument"},
	} {
		spec := Spec{Type: c.kind, MkfsOptions: strings.Fields(c.options), Compression: c.compression}
		err := CheckOptions(t.Context(), &description.Type{}, spec)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
			t.Errorf("%+v: error is %v", c, err)
		}
	}
	for kind, options := range map[string]string{
		"ext4": "-N 30000000 -b 1024 -O ^has_journal", "xfs": "-i size=1024", "btrfs": "-m single --checksum sha256", "reiserfs": "--hash tea", "erofs": "-x1", "cramfs": "-N little", "squashfs": "-comp lzo -Xalgorithm lzo1x_1",
	} {
		if err := CheckOptions(t.Context(), &description.Type{}, Spec{Type: kind, MkfsOptions: strings.Fields(options)}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestLabelsOfAllLanguages asks blkid for labels that fill all bytes the formats have for them.
func TestLabelsOfAllLanguages(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "mkfs.erofs", "mkfs.cramfs", "blkid")
	for kind, label := range map[string]string{"ext2": "\u4eba\u4eba\u4eba\u4eba\u4eba!", "ext4": "Gr\u00f6\u00dfe 1 \u2116 X", "erofs": "Gr\u00f6\u00dfe 1\u20ac\u20ac", "cramfs": "Gr\u00f6\u00dfe 12\u20ac\u20ac"} {
		spec := Spec{Type: kind, Label: label}
		if err := Check(spec); err != nil {
			t.Error(err)
			continue
		}
		f := newFile(t)
		if _, err := Create(t.Context(), testEnv(), f, smallTree(t), spec); err != nil {
			t.Fatal(err)
		}
		if got := testenv.Run(t, "blkid", "-p", "-o", "value", "-s", "LABEL", f.Name()); got != label+"\n" {
			t.Errorf("%s: blkid sees %q, not %q", kind, got, label)
		}
		for bad, want := range map[string]string{label + "\u00f6\u00f6": " bytes; ", "a\nb": "no text of one line", "a\xff": "no text of one line"} {
			if err := Check(Spec{Type: kind, Label: bad}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the label %q: %v", kind, bad, err)
			}
		}
	}
}
