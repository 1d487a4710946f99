package disk

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// TestTheme puts a theme of the root tree where GRUB finds it.
func TestTheme(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	edit := smallTree(t).Edit(layers.Timespec{})
	for _, name := range []string{"theme.txt", "background.png"} {
		if err := edit.MkdirAll("usr/share/grub/themes/nice", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := edit.WriteFile("usr/share/grub/themes/nice/"+name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := request(t, edit.Tree(), `filesystem="ext4" firmware="efi"`, "")
	r.Description.BootloaderTheme = "nice"
	_, tree, err := designOf(t, r)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"boot/grub/grub.cfg": "  set theme=$prefix/'themes/nice/theme.txt'\n", "boot/grub/themes/nice/theme.txt": "theme.txt",
		"etc/default/grub": "GRUB_BACKGROUND=\"/boot/grub/themes/nice/background.png\"\n",
	} {
		if data, err := tree.ReadFile(file, maxText); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("/%s lacks %q: %v\n%s", file, want, err, data)
		}
	}
	var log bytes.Buffer
	r.Description.BootloaderTheme = "other"
	r.Log = slog.New(slog.NewTextHandler(&log, nil))
	if _, _, err := designOf(t, r); err != nil || !strings.Contains(log.String(), "no theme other") {
		t.Errorf("%v, the log says %s", err, &log)
	}
}
