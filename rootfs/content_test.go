package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestOverlayArchives puts archives in the place of root/ into a tree.
func TestOverlayArchives(t *testing.T) {
	for name, pack := range map[string][]string{"root.tar": nil, "root.tar.gz": {"gzip", "-k"}, "root.tar.xz": {"xz", "-k"}, "root.tar.zst": {"zstd", "-q"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "root.tar"), []byte(tarball(t)), 0o644); err != nil {
				t.Fatal(err)
			}
			if pack != nil {
				testenv.NeedProgram(t, pack[0])
				testenv.Run(t, pack[0], append(pack[1:], filepath.Join(dir, "root.tar"))...)
			}
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			result, err := Overlay(t.Context(), request(t, hostTree(t, nil), load(t, map[string]string{"config.xml": describe("tbz"), name: string(data)})))
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, result.Tree, "x"); got != "x" {
				t.Errorf("%q", got)
			}
			// The directory comes first.
			result, err = Overlay(t.Context(), request(t, hostTree(t, nil), load(t, map[string]string{"config.xml": describe("tbz"), name: string(data), "root/y": "y"})))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := result.Tree.Lookup("x"); err == nil || read(t, result.Tree, "y") != "y" {
				t.Error("root/ is not what counts")
			}
		})
	}
}

// TestProfileFolders puts the folders of the active profiles over root/.
func TestProfileFolders(t *testing.T) {
	text := strings.Replace(describe("tbz"), "<preferences>", `<profiles><profile name="one" description="1" import="true"/><profile name="two" description="2" import="true"/><profile name="three" description="3"/></profiles><preferences>`, 1)
	image := load(t, map[string]string{
		"config.xml": text, "root/etc/a": "root", "root/etc/b": "root", "root/etc/c": "root", "one/etc/b": "one", "one/etc/c": "one", "two/etc/c": "two", "three/etc/a": "three",
	})
	result, err := Overlay(t.Context(), request(t, hostTree(t, nil), image))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, result.Tree, "etc/a") + read(t, result.Tree, "etc/b") + read(t, result.Tree, "etc/c"); got != "rootonetwo" {
		t.Errorf("%q", got)
	}
}

// TestMissingFiles looks where the error points to.
func TestMissingFiles(t *testing.T) {
	for name, text := range map[string]string{
		"archive": describe("tbz", `<archive name="gone.tar"/>`),
		"script":  strings.Replace(describe("oem"), `<type image="oem"`, `<type editbootinstall="gone.sh" image="oem"`, 1),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.xml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		doc, err := description.Load(dir, description.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		image, err := doc.Resolve(description.Selection{Arch: "x86_64", SkipChecks: []string{description.AllChecks}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Overlay(t.Context(), request(t, hostTree(t, nil), image))
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "config.xml")+":") || !strings.Contains(err.Error(), "gone.") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDescriptionInTree reads the description that lies in a prepared tree: with all files that it names.
func TestDescriptionInTree(t *testing.T) {
	text := strings.Replace(describe("oem", `<archive name="sub/a.tar"/>`), `<type image="oem"`, `<type editbootinstall="my/install.sh" image="oem"`, 1)
	r := request(t, hostTree(t, nil), load(t, map[string]string{"config.xml": text, "sub/a.tar": tarball(t), "my/install.sh": "true\n", "disk.sh": "true\n", "images.sh": "true\n"}))
	plan, err := PlanOverlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	scripts := []string{"images.sh", "disk.sh", "edit_boot_install.sh"}
	if diff := cmp.Diff(scripts, plan.Scripts); diff != "" {
		t.Error(diff)
	}
	r.Phase = Prepare
	result, err := Overlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := description.LoadFS(result.Tree.FS("image"), "tree:/image", description.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	image, err := doc.Resolve(description.Selection{Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	r = request(t, result.Tree, image)
	r.Phase = Create
	if plan, err = PlanOverlay(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(scripts, plan.Scripts); diff != "" {
		t.Error(diff)
	}
}
