package imagetypes

import (
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/layers"
)

func TestWithoutExcluded(t *testing.T) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	for _, name := range []string{"usr/share/doc/a/b", "usr/share/doc-base", "opt/x.pyc", "opt/y.py", "home/doc"} {
		if err := edit.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	plain := edit.Tree()
	if same, err := withoutExcluded(plain); err != nil || same != plain {
		t.Errorf("a tree without the file is not taken as it is (%v)", err)
	}
	with := func(text string) *layers.Tree {
		edit := plain.Edit(layers.Timespec{})
		if err := edit.WriteFile(excludeFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return edit.Tree()
	}
	got, err := withoutExcluded(with("exclude:\n  - /usr/share/doc\n  - opt/*.pyc\n  - not/there\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"usr/share/doc": false, "opt/x.pyc": false, "usr/share/doc-base": true, "opt/y.py": true, "home/doc": true, excludeFile: true} {
		if _, err := got.Lookup(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, wrong := range []string{"exclude: [/]", "exclude: [image]", "exclude: {a: b}", "exclude: ['a[b']", "\t"} {
		if _, err := withoutExcluded(with(wrong)); err == nil || !strings.Contains(err.Error(), "exclude_files.yaml") && !strings.Contains(err.Error(), "a[b") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
