package system

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/stash/stashtest"
)

// programs gives a description's overlay a shell, so that scripts run.
func programs(t *testing.T, dir string) {
	t.Helper()
	busybox, err := os.ReadFile(testenv.NeedProgram(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "root/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "rm", "env"} {
		if err := os.Symlink("busybox", filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// manyTypes are image types that need nothing of the tree; two of them start from a container, two from nothing.
const manyTypes = `<type image="docker" derived_from="base:latest"><containerconfig name="c"/></type><type image="oci" derived_from="base:latest"><containerconfig name="c"/></type>
<type image="tar.zst"/><type image="cpio"/>`

// sums returns the digest of each result but the lock, which says what it was built with.
func sums(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	list := map[string]string{}
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if sum, name, _ := strings.Cut(strings.TrimSpace(line), "  "); name != LockFile {
				list[name] = sum
			}
		}
	}
	return list
}

// TestTypesTogetherAreAsAlone builds several types in one pass, and one by one.
func TestTypesTogetherAreAsAlone(t *testing.T) {
	all := []string{"docker", "oci", "tar.zst", "cpio"}
	for name, files := range map[string]map[string]string{
		"no program runs":                  {"root/etc/motd": "welcome\n"},
		"a configuration without the type": {"config.sh": "#!/bin/sh\necho $kiwi_iname > /etc/configured\n"},
		"each type has its own": {
			"config.sh": "#!/bin/sh\necho $kiwi_type > /etc/configured\ncat /etc/hostnam* /.profile >> /etc/configured; true\n", "images.sh": "#!/bin/sh\necho $kiwi_type > /etc/imaged\ncat /.profile >> /etc/imaged\n",
		},
		"only images.sh":            {"images.sh": "#!/bin/sh\necho $kiwi_type > /etc/imaged\n"},
		"a script of the beginning": {"post_bootstrap.sh": "#!/bin/sh\necho $kiwi_type > /etc/begun\n"},
	} {
		types := all
		if files["post_bootstrap.sh"] != "" {
			types = all[:2] // there is a shell in their container
		}
		t.Run(name, func(t *testing.T) { testTogether(t, types, files) })
	}
}

func testTogether(t *testing.T, all []string, files map[string]string) {
	files["root/etc/issue"] = "ours\n"
	for name, text := range map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "root:*:1::::::\n"} {
		files["root/"+name] = text
	}
	busybox, err := os.ReadFile(testenv.NeedProgram(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	tree := map[string]string{"bin/sh": string(busybox), "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "root:*:1::::::\n", "root/": ""}
	client := stashtest.Client(t, map[string]map[string]string{"base": tree})
	dir, top := describedBy(t, aDescription("web", manyTypes)), t.TempDir()
	programs(t, dir)
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), text)
	}
	opts := BuildOptions{Options: from(client, dir), TargetDir: filepath.Join(top, "together")}
	opts.Types = all
	if _, err := Build(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	sameAlone(t, opts, all)
	left, first := filepath.Join(top, "together", RootDir), filepath.Join(top, all[0], RootDir)
	if diff := cmp.Diff(treeOf(t, first), treeOf(t, left)); diff != "" {
		t.Errorf("the root tree that is left is not that of the first type: %s", diff)
	}
}

// sameAlone builds each type by itself, in a directory beside the one that opts has built all of them in, and compares the results.
func sameAlone(t *testing.T, opts BuildOptions, all []string) {
	t.Helper()
	together := opts.TargetDir
	var alone []string
	for _, kind := range all {
		opts.Types, opts.Selection.Type, opts.TargetDir = nil, kind, filepath.Join(filepath.Dir(together), kind)
		if _, err := Build(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		alone = append(alone, opts.TargetDir)
	}
	if diff := cmp.Diff(sums(t, alone...), sums(t, together)); diff != "" {
		t.Errorf("a pass for all types gives other bytes: %s", diff)
	}
}

// treeOf returns the regular files of a root tree with their content; nil if there is none.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	files := map[string]string{}
	for _, name := range below(t, dir) {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() || strings.HasSuffix(name, LockFile) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	return files
}

// TestOneTypeFails stops the others, and leaves nothing.
func TestOneTypeFails(t *testing.T) {
	dir, top := describedBy(t, aDescription("web", manyTypes)), t.TempDir()
	programs(t, dir)
	writeFile(t, filepath.Join(dir, "root/etc/passwd"), "root:x:0:0::/root:/bin/sh\n")
	writeFile(t, filepath.Join(dir, "root/etc/group"), "root:x:0:\n")
	writeFile(t, filepath.Join(dir, "images.sh"), "#!/bin/sh\n[ $kiwi_type != cpio ]\n")
	opts := BuildOptions{Options: from(base(t), dir), TargetDir: filepath.Join(top, "out")}
	opts.Types = []string{"tar.zst", "cpio"}
	_, err := Build(t.Context(), opts)
	if err == nil || !strings.HasPrefix(err.Error(), "image type cpio: running images.sh") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff([]string{"build", "build/image-root.log"}, below(t, opts.TargetDir)); diff != "" {
		t.Errorf("after an error there is more or less than the log: %s", diff)
	}
}

// TestTypesThatCannotBeTogether are refused before anything is done.
func TestTypesThatCannotBeTogether(t *testing.T) {
	const types = `<type image="tbz"/><type image="kis" kernelcmdline="x"/><type image="cpio"/>`
	for _, test := range []struct {
		types []string
		want  string
	}{
		{[]string{"tbz", "kis"}, "both make a file web."}, {[]string{"tbz", "oem"}, `the description has no type "oem"`}, {[]string{"all"}, "both make a file web."},
	} {
		opts := BuildOptions{Options: from(base(t), describedBy(t, aDescription("web", types))), TargetDir: filepath.Join(t.TempDir(), "out")}
		opts.Types = test.types
		_, err := Build(t.Context(), opts)
		var at *description.Error
		var all description.Errors
		if err == nil || !strings.Contains(err.Error(), test.want) || !errors.As(err, &at) && !errors.As(err, &all) {
			t.Errorf("%v: error %v", test.types, err)
		}
		if _, err := os.Stat(opts.TargetDir); err == nil {
			t.Errorf("%v: something was done", test.types)
		}
	}
}

// TestCompressionOfNoContainer is refused.
func TestCompressionOfNoContainer(t *testing.T) {
	opts := BuildOptions{Options: from(base(t), describedBy(t, aDescription("web", `<type image="tar"/><type image="cpio"/>`))), TargetDir: filepath.Join(t.TempDir(), "out")}
	opts.Types, opts.Container.Compression = []string{AllTypes}, &layers.Compression{Algorithm: layers.Zstd}
	_, err := Build(t.Context(), opts)
	if err == nil || !strings.Contains(err.Error(), "--container-compression: the image type tar,cpio is no container") {
		t.Errorf("error %v", err)
	}
}

// TestAllTypes of a root tree that was prepared.
func TestAllTypes(t *testing.T) {
	client, top := base(t), t.TempDir()
	dir := describedBy(t, aDescription("web", `<type image="oci" derived_from="base:latest"/><type image="tar.zst"/><type image="cpio"/>`))
	root := filepath.Join(top, "root")
	if _, err := Prepare(t.Context(), prepareOptions(client, dir, root)); err != nil {
		t.Fatal(err)
	}
	opts := CreateOptions{Options: from(client, ""), Root: root, TargetDir: filepath.Join(top, "out")}
	opts.Types = []string{AllTypes}
	made, err := Create(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, f := range made.Results.Files {
		kinds = append(kinds, f.Type)
	}
	if diff := cmp.Diff([]string{"oci", "tar.zst", "cpio", ""}, kinds); diff != "" {
		t.Errorf("results: %s", diff)
	}
	lock, err := ReadLock(filepath.Join(top, "out", LockFile))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"oci", "tar.zst", "cpio"}, lock.Image.Types); diff != "" {
		t.Error(diff)
	}
}
