package stack

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/stash/stashtest"
)

// delta builds a container that holds only what a change of a stashed container makes different. It returns its name and the whole tree.
func delta(t *testing.T, client *registry.Client, base string, change func(*layers.Editor) error) (string, *layers.Tree) {
	t.Helper()
	s, err := Make(t.Context(), client, Options{Containers: []string{base}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	doc, err := description.LoadFS(fstest.MapFS{"config.xml": {Data: []byte(`<image schemaversion="7.6" name="delta">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences><version>1.0.0</version><packagemanager>apt</packagemanager><type image="oci" derived_from="docker://` + base + `" delta_root="true"><containerconfig name="delta"/></type></preferences>
  <repository type="apt-deb"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="image"><package name="bash"/></packages>
</image>`)}}, "", description.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := doc.Resolve(description.Selection{Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	edit := s.Tree.Edit(layers.Timespec{Sec: 1600000000})
	if err := change(edit); err != nil {
		t.Fatal(err)
	}
	results, err := imagetypes.Create(t.Context(), imagetypes.CreateOptions{
		Tree: edit.Tree(), Base: &image.Base{Name: base, Image: s.Images[0].Image, Tree: s.Tree}, Description: resolved, TargetDir: filepath.Join(t.TempDir(), "out"), Repro: stashtest.Repro(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return "oci-archive:" + results.Files[0].Path, edit.Tree()
}

func TestDeltaBringsTheWholeTreeBack(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{
		"base":  {"etc/issue": "base", "etc/gone": "x", "usr/lib/a/b": "deep", "usr/bin/tool": "1"},
		"other": {"etc/issue": "other"},
	})
	name, want := delta(t, client, "base:latest", func(e *layers.Editor) error {
		return errors.Join(e.Remove("etc/gone"), e.Remove("usr/lib/a"), e.WriteFile("usr/bin/tool", []byte("22"), 0o755), e.Symlink("tool", "usr/bin/link"))
	})
	s, err := Make(t.Context(), client, Options{Containers: []string{"base", name}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	layerstest.Same(t, want, s.Tree)

	// What lies above and below is stacked as always.
	three, err := Make(t.Context(), client, Options{Containers: []string{"base", name, "other"}})
	if err != nil {
		t.Fatal(err)
	}
	defer three.Close()
	if data, err := three.Tree.ReadFile("etc/issue", 100); err != nil || string(data) != "other" {
		t.Errorf("/etc/issue holds %q, %v", data, err)
	}
	if _, err := three.Tree.Lookup("etc/gone"); err == nil {
		t.Error("/etc/gone is back")
	}
	if len(three.Report.Clashes) != 1 || three.Report.Clashes[0].Took != "other:latest" || three.Report.Clashes[0].From != "delta:latest" {
		t.Errorf("the clashes are %+v", three.Report.Clashes)
	}
}

// TestDeltaKeepsEveryKindOfChange changes each kind of entry into others, and links, owners and attributes.
func TestDeltaKeepsEveryKindOfChange(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{"base": {
		"dir/a": "1", "dir/b/c": "2", "file": "x", "link": "-> file", "full/x": "1", "full/y": "2", "one": "same", "mode": "m", "attributes": "a", "kept/deep/er": "k", "empty/": "",
	}})
	name, want := delta(t, client, "base:latest", func(e *layers.Editor) error {
		return errors.Join(
			e.Remove("dir"), e.WriteFile("dir", []byte("a file now"), 0o600), // a directory becomes a file,
			e.Remove("file"), e.WriteFile("file/with/more", []byte("deep"), 0o644), // a file a directory,
			e.Remove("link"), e.MkdirAll("link", 0o700), // a link a directory,
			e.Remove("full"), e.WriteFile("full/z", nil, 0o644), // a directory has other entries,
			e.Link("one", "two"), e.Link("one", "kept/three"), // hard links join what was there, in another directory too,
			e.Remove("mode"), e.Symlink("nowhere", "mode"), // a file becomes a link,
			e.Change("attributes", func(n *layers.Node) {
				n.Xattrs = []layers.Xattr{{Name: "security.capability", Value: "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}, {Name: "user.note", Value: "\x00binary"}}
				n.UID, n.GID, n.Mode = 1000, 70000, n.Mode|0o4000
			}),
			e.Change("empty", func(n *layers.Node) { n.Mode |= 0o1777 }),
			e.Put("dev-null", &layers.Node{Mode: layers.TypeChar | 0o666, Major: 1, Minor: 3}), e.Put("pipe", &layers.Node{Mode: layers.TypeFIFO | 0o600}),
			e.WriteFile("odd \n name \xff", []byte("odd"), 0o644), e.WriteFile(".wh", []byte("no whiteout"), 0o644),
		)
	})
	s, err := Make(t.Context(), client, Options{Containers: []string{"base", name}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	layerstest.Same(t, want, s.Tree)
	one, err := s.Tree.Lookup("one")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"two", "kept/three"} {
		if n, err := s.Tree.Lookup(name); err != nil || n != one {
			t.Errorf("/%s is no hard link of /one: %v", name, err)
		}
	}
}

func TestDeltaNeedsItsBase(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{"base": {"etc/issue": "base"}, "other": {"etc/issue": "other"}})
	name, _ := delta(t, client, "base:latest", func(e *layers.Editor) error { return e.WriteFile("new", nil, 0o644) })
	for _, containers := range [][]string{{name}, {"other", name}} {
		if s, err := Make(t.Context(), client, Options{Containers: containers}); !errors.Is(err, ErrDelta) {
			t.Errorf("%v: error is %v", containers, err)
			if err == nil {
				s.Close()
			}
		}
	}
	forced, err := Make(t.Context(), client, Options{Containers: []string{"other", name}, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	defer forced.Close()
	if _, err := forced.Tree.Lookup("new"); err != nil {
		t.Error(err)
	}
}
