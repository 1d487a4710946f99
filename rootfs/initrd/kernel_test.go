package initrd

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/layers"
)

func newTree(t *testing.T, files []string, links map[string]string) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{})
	for link, target := range links {
		if err := edit.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range files {
		if err := edit.MkdirAll("usr/lib", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := edit.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

func TestFindKernels(t *testing.T) {
	for _, test := range []struct {
		name  string
		files []string
		links map[string]string
		want  []Kernel
	}{
		{name: "none", want: []Kernel{}},
		{
			name: "Debian, two kernels",
			files: []string{
				"boot/vmlinuz-6.1.0-9-amd64", "boot/vmlinuz-6.1.0-13-amd64", "boot/vmlinuz-6.1.0-13-amd64.old", "boot/initrd.img-6.1.0-13-amd64", "boot/System.map-6.1.0-9-amd64",
				"usr/lib/modules/6.1.0-9-amd64/modules.dep", "usr/lib/modules/6.1.0-13-amd64/modules.dep", "usr/lib/modules/5.10/modules.dep",
			},
			links: map[string]string{"lib": "usr/lib", "vmlinuz": "boot/vmlinuz-6.1.0-13-amd64"},
			want: []Kernel{
				{"6.1.0-9-amd64", "boot/vmlinuz-6.1.0-9-amd64", "", "usr/lib/modules/6.1.0-9-amd64"},
				{"6.1.0-13-amd64", "boot/vmlinuz-6.1.0-13-amd64", "boot/initrd.img-6.1.0-13-amd64", "usr/lib/modules/6.1.0-13-amd64"},
			},
		},
		{
			name:  "openSUSE, with links",
			files: []string{"usr/lib/modules/5.14.21-150-default/vmlinuz", "boot/initrd-5.14.21-150-default"},
			links: map[string]string{"boot/vmlinuz-5.14.21-150-default": "../usr/lib/modules/5.14.21-150-default/vmlinuz", "boot/vmlinuz": "vmlinuz-5.14.21-150-default"},
			want:  []Kernel{{"5.14.21-150-default", "boot/vmlinuz-5.14.21-150-default", "boot/initrd-5.14.21-150-default", "usr/lib/modules/5.14.21-150-default"}},
		},
		{
			name:  "Fedora, kernel beside its modules",
			files: []string{"lib/modules/6.8.5/vmlinuz", "boot/initramfs-6.8.5.img", "boot/vmlinuz-0-rescue-77"},
			want: []Kernel{
				{"0-rescue-77", "boot/vmlinuz-0-rescue-77", "", ""},
				{"6.8.5", "lib/modules/6.8.5/vmlinuz", "boot/initramfs-6.8.5.img", "lib/modules/6.8.5"},
			},
		},
		{
			name:  "Alpine",
			files: []string{"boot/vmlinuz-virt", "boot/vmlinuz-lts", "boot/initramfs-virt", "lib/modules/6.6.31-0-virt/modules.dep", "lib/modules/6.6.30-2-lts/modules.dep", "boot/config-virt"},
			want: []Kernel{
				{"6.6.30-2-lts", "boot/vmlinuz-lts", "", "lib/modules/6.6.30-2-lts"},
				{"6.6.31-0-virt", "boot/vmlinuz-virt", "boot/initramfs-virt", "lib/modules/6.6.31-0-virt"},
			},
		},
		{
			name:  "a link that leads nowhere is no initrd",
			files: []string{"boot/vmlinuz-6.1"},
			links: map[string]string{"boot/initrd.img-6.1": "initrd.img-6.1.dpkg-bak"},
			want:  []Kernel{{"6.1", "boot/vmlinuz-6.1", "", ""}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, FindKernels(newTree(t, test.files, test.links))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"4.19.0-9-amd64", "5.4", "5.10", "5.10.0-1", "5.10.0-01-x", "6.1.0-9-amd64", "6.1.0-13-amd64", "6.1.0-13-cloud-amd64", "6.12.1+deb13"}
	mixed := slices.Clone(sorted)
	slices.Reverse(mixed)
	slices.SortFunc(mixed, CompareVersions)
	if diff := cmp.Diff(sorted, mixed); diff != "" {
		t.Error(diff)
	}
}

func TestSettingsDiffer(t *testing.T) {
	base := newTree(t, []string{"etc/initramfs-tools/conf.d/x", "etc/vconsole.conf", "etc/motd"}, map[string]string{"etc/dracut.conf": "x"})
	for _, test := range []struct {
		name   string
		change func(*layers.Editor) error
		want   bool
	}{
		{"nothing", func(*layers.Editor) error { return nil }, false},
		{"the same again", func(e *layers.Editor) error { return e.WriteFile("etc/initramfs-tools/conf.d/x", []byte("x"), 0o644) }, false},
		{"other file", func(e *layers.Editor) error { return e.WriteFile("etc/motd", []byte("y"), 0o644) }, false},
		{"keyboard", func(e *layers.Editor) error { return e.WriteFile("etc/vconsole.conf", []byte("y"), 0o644) }, false},
		{"content", func(e *layers.Editor) error { return e.WriteFile("etc/initramfs-tools/conf.d/x", []byte("y"), 0o644) }, true},
		{"new file", func(e *layers.Editor) error { return e.WriteFile("etc/initramfs-tools/hooks/y", nil, 0o755) }, true},
		{"removed", func(e *layers.Editor) error { return e.Remove("etc/initramfs-tools") }, true},
		{"link", func(e *layers.Editor) error { return e.Symlink("y", "etc/dracut.conf") }, true},
		{"encrypted disk", func(e *layers.Editor) error { return e.WriteFile("etc/crypttab", nil, 0o600) }, true},
	} {
		edit := base.Edit(layers.Timespec{Sec: 9})
		if err := test.change(edit); err != nil {
			t.Fatal(err)
		}
		if got, err := SettingsDiffer(base, edit.Tree()); err != nil || got != test.want {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
}
