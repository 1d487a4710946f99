package description

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestReferencePage keeps the page in docs equal to the table.
func TestReferencePage(t *testing.T) {
	var b strings.Builder
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("..", "docs", "description-reference.md"), b.String())
}

// TestTable checks the table itself: everything is explained, defaults are
// values, lists of types are types.
func TestTable(t *testing.T) {
	var walk func(r *elementRule, path string)
	walk = func(r *elementRule, path string) {
		path += "/" + r.Name
		if r.Doc == "" {
			t.Errorf("%s has no text", path)
		}
		for _, a := range r.Attrs {
			if a.Doc == "" || a.Value == nil {
				t.Errorf("%s: attribute %s has no text or no value", path, a.Name)
			}
			if a.Default != "" {
				if problem, _ := a.Value.check(a.Default, v7_6); problem != "" {
					t.Errorf("%s: default of %s: %s", path, a.Name, problem)
				}
			}
			for _, name := range strings.Fields(a.Types) {
				if !contains(imageTypes, name) {
					t.Errorf("%s: attribute %s is for the unknown type %s", path, a.Name, name)
				}
			}
			if a.Excludes != "" && r.attr(a.Excludes) == nil {
				t.Errorf("%s: attribute %s excludes the unknown %s", path, a.Name, a.Excludes)
			}
		}
		for _, c := range r.Children {
			walk(c.Rule, path)
		}
	}
	walk(imageRule, "")
}

// TestEveryAttributeOfTypeIsRead makes sure that no attribute of <type> is
// validated and then forgotten.
func TestEveryAttributeOfTypeIsRead(t *testing.T) {
	read := map[string]bool{}
	typ := reflect.TypeFor[Type]()
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("kiwi"), ",")
		read[name] = true
	}
	elsewhere := []string{"formatoptions", "btrfs_root_is_snapshot", "btrfs_root_is_snapper_snapshot"}
	for _, a := range typeRule.Attrs {
		if !read[a.Name] && !contains(elsewhere, a.Name) {
			t.Errorf("attribute %s of <type> is not in the model", a.Name)
		}
	}
	for _, c := range oemConfigRule.Children {
		found := false
		oem := reflect.TypeFor[OEMConfig]()
		for i := range oem.NumField() {
			found = found || strings.HasPrefix(oem.Field(i).Tag.Get("kiwi"), c.Rule.Name+",")
		}
		if !found {
			t.Errorf("<%s> is not in the model", c.Rule.Name)
		}
	}
}
