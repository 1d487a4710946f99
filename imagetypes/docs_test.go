package imagetypes

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// packageOf is the Debian package of a program that a builder needs on this machine.
func packageOf() map[string]string {
	return map[string]string{
		"mke2fs": "e2fsprogs", "mkfs.vfat": "dosfstools", "mcopy": "mtools", "xorriso": "xorriso", "mkfs.erofs": "erofs-utils", "mkfs.cramfs": "util-linux",
		"grub-mkimage": "", // for trees without GRUB's core image
	}
}

// TestTableOfTypes holds the documents' table of image types to what [TestEveryTypeTwice] builds: names, endings, programs, and whether two results are equal.
func TestTableOfTypes(t *testing.T) {
	text, err := os.ReadFile("../docs/image-types.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{} // by type: the cells behind the first
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 6 || !strings.HasPrefix(cells[0], " `") {
			continue
		}
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[0], -1) {
			if rows[name[1]] != nil {
				t.Errorf("%s is in the table two times", name[1])
			}
			rows[name[1]] = cells[1:]
		}
	}
	cases := sameCases()
	for _, kind := range All() {
		row := rows[kind.Name]
		delete(rows, kind.Name)
		if row == nil {
			t.Errorf("%s is not in the table", kind.Name)
			continue
		}
		result, equal, needs := row[0], strings.TrimSpace(row[3]), row[4]
		if !strings.Contains(result, "`."+kind.Extension+"`") && (!strings.Contains(result, "the type's name") || kind.Extension != kind.Name) {
			t.Errorf("%s: the result is %q, and not .%s", kind.Name, result, kind.Extension)
		}
		if strings.HasPrefix(equal, "yes") != (cases[kind.Name].never == "") || !strings.HasPrefix(equal, "yes") && !strings.HasPrefix(equal, "no: ") {
			t.Errorf("%s: equal bytes: %q; the test says %q", kind.Name, equal, cases[kind.Name].never)
		}
		for _, program := range cases[kind.Name].needs {
			name, known := packageOf()[program]
			if !known {
				t.Errorf("%s: the package of %s is not in this test", kind.Name, program)
			}
			if !strings.Contains(needs, name) && !slices.Contains([]string{"kis", "pxe"}, kind.Name) {
				t.Errorf("%s needs %s, and the table says %q", kind.Name, name, needs)
			}
		}
	}
	for name := range rows {
		t.Errorf("the table has %s, which is no image type", name)
	}
}
