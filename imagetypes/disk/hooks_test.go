package disk

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/selinux"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// withScripts is a tree that a disk can be built of and that has a shell, with scripts of a description in it.
func withScripts(t *testing.T, files map[string]string) *layers.Tree {
	t.Helper()
	testenv.NeedRoot(t)
	busybox, err := os.ReadFile(testenv.NeedProgram(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	edit := withHostGrub(t, smallTree(t)).Edit(layers.Timespec{})
	if err := edit.WriteFile("bin/sh", busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

// runnable returns the request with the tree as it is when an image is made of it.
func runnable(t *testing.T, r *image.Request) *image.Request {
	t.Helper()
	result, err := rootfs.Overlay(t.Context(), rootfs.Request{
		Tree: r.Tree, Description: r.Description, Phase: rootfs.Create, Dir: filepath.Join(t.TempDir(), "root"), Repro: r.Repro,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Tree, r.Runner, r.Log, r.Progress = result.Tree, result, slog.New(slog.DiscardHandler), progress.Discard
	return r
}

func TestScripts(t *testing.T) {
	testenv.NeedPrograms(t, "patch", "bash")
	const patch = "--- a\n+++ b\n@@ -1,2 +1,3 @@\n UUID=%s / ext4 defaults 0 1\n+none /dev/shm tmpfs size=1g 0 0\n tmpfs /tmp tmpfs defaults 0 0\n"
	plain := request(t, smallTree(t), `filesystem="ext4" firmware="bios"`, "")
	d, err := newDesign(plain.Description, plain.Repro)
	if err != nil {
		t.Fatal(err)
	}
	tree := withScripts(t, map[string]string{
		"etc/fstab.patch":           fmt.Sprintf(patch, root(d.volumes).UUID),
		"etc/fstab.script":          "echo '# by script' >> /etc/fstab\n",
		"image/edit_boot_config.sh": "echo \"$@\" > args && echo \"# outside\" >> boot/grub/grub.cfg\n",
		"image/pre_disk_sync.sh":    "echo pre > /order; test -e /etc/fstab\n",
		"image/disk.sh":             "echo \"disk $kiwi_iname\" >> /order\n. /config.partids\necho $kiwi_RootPart >> /order\n",
		"image/edit_boot_install.sh": "set -e\ntest \"$(stat -c %s $2)\" -gt 1000000\nprintf loader | dd of=$1 bs=1 seek=64 conv=notrunc\n" +
			"printf label | dd of=$2 bs=1 conv=notrunc\n",
	})
	r := runnable(t, request(t, tree, `filesystem="ext4" firmware="bios"`, ""))
	prepared, builder, err := Builder{}.Prepare(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"etc/fstab": fmt.Sprintf("UUID=%s / ext4 defaults 0 1\nnone /dev/shm tmpfs size=1g 0 0\ntmpfs /tmp tmpfs defaults 0 0\n# by script\n", root(d.volumes).UUID),
		"order":     "pre\ndisk Test-VM\n1\n", "args": "ext4 1\n",
	} {
		data, err := prepared.Tree.ReadFile(name, maxText)
		if diff := cmp.Diff(want, string(data)); diff != "" || err != nil {
			t.Errorf("/%s: %v %s", name, err, diff)
		}
	}
	if grubCfg, err := prepared.Tree.ReadFile("boot/grub/grub.cfg", maxText); err != nil || !strings.HasSuffix(string(grubCfg), "# outside\n") {
		t.Errorf("grub.cfg: %v\n%s", err, grubCfg)
	}
	for _, gone := range []string{"etc/fstab.append", "etc/fstab.patch", "etc/fstab.script"} {
		if _, err := prepared.Tree.Lookup(gone); err == nil {
			t.Errorf("/%s was left", gone)
		}
	}
	results, err := builder.Build(t.Context(), prepared)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.Dir, results[0].File)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ready := builder.(Builder).ready
	start := ready.offset(root(ready.volumes))
	if string(data[64:70]) != "loader" || string(data[start:start+5]) != "label" {
		t.Errorf("the disk has %q and its partition %q", data[64:70], data[start:start+5])
	}
	part := filepath.Join(t.TempDir(), "root")
	if err := os.WriteFile(part, data[start:start+root(ready.volumes).Size], 0o600); err != nil {
		t.Fatal(err)
	}
	if out := testenv.Run(t, "debugfs", "-R", "cat /order", part); !strings.Contains(out, "disk Test-VM") {
		t.Errorf("/order on the disk: %s", out)
	}
}

func TestScriptsFail(t *testing.T) {
	for _, test := range []struct{ name, file, text, want string }{
		{"patch", "etc/fstab.patch", "--- a\n+++ b\n@@ -1 +1 @@\n-nonsense\n+x\n", "applying /etc/fstab.patch"},
		{"commands of ed", "etc/fstab.patch", "--- a\n+++ b\n1i\nx\n.\n!touch /tmp/ed-was-here\n", "applying /etc/fstab.patch"},
		{"fstab.script", "etc/fstab.script", "exit 7\n", "running /etc/fstab.script: it failed (exit code 7)"},
		{"disk.sh", "image/disk.sh", "echo so\nno-such-program\n", "running disk.sh: it failed at line 2 (exit code 127)"},
		{"edit_boot_config", "image/edit_boot_config.sh", "echo x > /etc/fstab-of-the-host\n", "running edit_boot_config.sh: it failed at line 1 (exit code 1)"},
		{"size", "image/edit_boot_install.sh", "echo x >> $1\n", "has changed the size"},
	} {
		t.Run(test.name, func(t *testing.T) {
			testenv.NeedPrograms(t, "patch", "bash")
			r := runnable(t, request(t, withScripts(t, map[string]string{test.file: test.text}), `filesystem="ext4" firmware="bios"`, ""))
			prepared, builder, err := Builder{}.Prepare(t.Context(), r)
			if err == nil {
				_, err = builder.Build(t.Context(), prepared)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
			for _, name := range []string{"/tmp/ed-was-here", "/etc/fstab-of-the-host"} {
				if _, err := os.Lstat(name); err == nil {
					t.Errorf("%s was made on this machine", name)
				}
			}
		})
	}
}

// TestNoScripts leaves a request as it is.
func TestNoScripts(t *testing.T) {
	r := request(t, smallTree(t), `filesystem="ext4" firmware="bios"`, "")
	prepared, builder, err := Builder{}.Prepare(t.Context(), r)
	if err != nil || prepared != r || builder != (Builder{}) {
		t.Errorf("%v, %v, %v", prepared, builder, err)
	}
}

// TestLabels looks that the disk's own files have the labels of the tree's policy.
func TestLabels(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	edit := smallTree(t).Edit(layers.Timespec{})
	const policy = "/.*\tsystem_u:object_r:default_t:s0\n/etc/fstab.*\t--\tsystem_u:object_r:etc_t:s0\n"
	if err := edit.WriteFile("etc/selinux/targeted/contexts/files/file_contexts", []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
	_, tree, err := designOf(t, request(t, edit.Tree(), `filesystem="ext4" firmware="bios"`, ""))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"etc/fstab": "etc_t", "boot/grub/grub.cfg": "default_t", "usr/bin/true": "default_t"} {
		n, err := tree.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := n.Xattr(selinux.Attribute); !strings.Contains(got, want) {
			t.Errorf("/%s has the label %q", name, got)
		}
	}
}
