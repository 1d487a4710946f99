package grub

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// checkScript lets GRUB's own program read a configuration.
func checkScript(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "grub.cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "grub-script-check", file)
}

func TestTheme(t *testing.T) {
	testenv.NeedProgram(t, "grub-script-check")
	edit := layers.NewTree().Edit(layers.Timespec{})
	for _, name := range []string{"theme.txt", "font.pf2", "background.png", "icons/linux.png"} {
		if err := edit.MkdirAll("usr/share/grub/themes/it's mine/icons", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := edit.WriteFile("usr/share/grub/themes/it's mine/"+name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	theme, err := InstallTheme(edit, edit, "boot/grub", "it's mine")
	if err != nil {
		t.Fatal(err)
	}
	want := Theme{File: "themes/it's mine/theme.txt", Fonts: []string{"themes/it's mine/font.pf2"}, Background: "themes/it's mine/background.png"}
	if diff := cmp.Diff(want, theme); diff != "" {
		t.Error(diff)
	}
	if _, err := edit.Tree().Lookup("boot/grub/themes/it's mine/icons/linux.png"); err != nil {
		t.Error(err)
	}
	again, err := InstallTheme(edit, edit, "boot/grub", "it's mine") // it lies there already
	if err != nil || again.File != theme.File {
		t.Errorf("%v, %v", again, err)
	}
	c := Config{Title: "System", Output: []string{"gfxterm", "serial"}, Theme: theme}
	text := c.Menu([]Entry{{Title: "System", Kernel: Kernel{Image: "/linux"}}})
	checkScript(t, text)
	checkScript(t, Config{Title: "System", Output: []string{"gfxterm"}}.String())
	if !strings.Contains(text, `set theme=$prefix/'themes/it'\''s mine/theme.txt'`) {
		t.Errorf("grub.cfg is\n%s", text)
	}
	var missing *ThemeError
	if _, err := InstallTheme(edit, edit, "boot/grub", "other"); !errors.As(err, &missing) {
		t.Errorf("error is %v", err)
	}
}

func TestFill(t *testing.T) {
	values := map[string]string{"title": "A $ystem", "boot_timeout": "5"}
	got, err := Fill("set timeout=$boot_timeout\nmenuentry '${title}' { echo $$prefix $${x} }\n", values)
	if diff := cmp.Diff("set timeout=5\nmenuentry 'A $ystem' { echo $prefix ${x} }\n", got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	for template, want := range map[string]string{"$nothing": "no variable nothing; there are boot_timeout, title", "5$": "write $$"} {
		if _, err := Fill(template, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v lacks %q", template, err, want)
		}
	}
}
