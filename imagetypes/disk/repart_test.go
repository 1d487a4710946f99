package disk

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/qemu"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// TestRootGrows lets a pretended dracut show what it would have been told.
func TestRootGrows(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	tree := withScripts(t, map[string]string{
		"usr/lib/dracut/modules.d/90kiwi-repart/module-setup.sh": "x", "lib/modules/6.1.0-10-amd64/modules.builtin": "x", "lib/modules/6.1.0-9-amd64/modules.builtin": "x",
		"usr/lib/dracut/modules.d/00bash/module-setup.sh": "x", ".profile": "kiwi_oemresizeonce='true'\nkiwi_rootpartuuid=''\n",
	})
	edit := tree.Edit(layers.Timespec{})
	script := "#!/bin/sh\nfor last; do before=$file; file=$last; done\n{ echo \"$@\"; cat /.profile /config.partids; } > $before\n"
	if err := edit.WriteFile("usr/bin/dracut", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	const resize = `<oemconfig><oem-resize>true</oem-resize><oem-resize-once>true</oem-resize-once></oemconfig>`
	r := runnable(t, request(t, edit.Tree(), `filesystem="ext4" firmware="efi"`, resize))
	prepared, builder, err := Builder{}.Prepare(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"6.1.0-9-amd64", "6.1.0-10-amd64"} {
		data, err := prepared.Tree.ReadFile("boot/initrd.img-"+version, maxText)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"--add kiwi-repart bash --install /.profile /config.partids --omit dash multipath /boot/initrd.img-" + version + " " + version + "\n", "kiwi_oemresizeonce='true'\n",
			"kiwi_rootpartuuid='" + root(builder.(Builder).ready.volumes).PartUUID + "'\n", `kiwi_RootPart="3"`,
		} {
			if !strings.Contains(string(data), want) {
				t.Errorf("the initial RAM disk of %s lacks %q:\n%s", version, want, data)
			}
		}
	}
	for _, fixed := range []struct{ attributes, content string }{
		{`filesystem="ext4" firmware="efi"`, `<oemconfig><oem-resize>false</oem-resize></oemconfig>`},
		{`filesystem="squashfs" firmware="efi"`, resize},
	} {
		if grows(&request(t, r.Tree, fixed.attributes, fixed.content).Description.Type, r.Tree) {
			t.Errorf("%s %s: the root grows", fixed.attributes, fixed.content)
		}
	}
	// Who asks for it without dracut is told.
	var log bytes.Buffer
	r = request(t, smallTree(t), `filesystem="ext4" firmware="efi"`, resize)
	r.Log = slog.New(slog.NewTextHandler(&log, nil))
	if _, _, err := designOf(t, r); err != nil || !strings.Contains(log.String(), "oem-resize has no effect") {
		t.Errorf("%v, the log says %s", err, &log)
	}
}

// TestBootGrowing boots a disk in a machine whose disk is larger.
func TestBootGrowing(t *testing.T) {
	if os.Getenv("IMGBUILD_TEST_BOOT") != "all" {
		t.Skip("IMGBUILD_TEST_BOOT=all runs this test")
	}
	testenv.NeedPrograms(t, "qemu-system-x86_64", "qemu-img", "mkfs.vfat", "mcopy", "grub-mkimage")
	testenv.NeedRealRoot(t)
	tree := layerstest.Tree(t, layerstest.Live)
	if !grows(&request(t, tree, `filesystem="ext4" firmware="efi"`, "").Description.Type, tree) {
		testenv.Missing(t, "the root tree has no dracut with kiwi-repart")
	}
	const content = `<bootloader name="grub2" timeout="1" console="serial"/><oemconfig><oem-resize>true</oem-resize></oemconfig>`
	r := runnable(t, request(t, tree, `filesystem="ext4" firmware="efi" kernelcmdline="console=ttyS0 net.ifnames=0"`, content))
	prepared, builder, err := Builder{}.Prepare(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	disk := imagetest.Build(t, builder, prepared)
	testenv.Run(t, "qemu-img", "resize", "-q", "-f", "raw", disk, "6G")
	boot(t, disk, bootCase{format: "raw", checks: map[string]string{"df -BG --output=size / | tail -n 1": "6G", "findmnt -n -o FSTYPE /": "ext4"}}, qemu.BIOS)
}
