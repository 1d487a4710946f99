package iso

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
)

// TestTemplate fills the description's own template for the menu.
func TestTemplate(t *testing.T) {
	const template = "search $search_params\nset timeout=${boot_timeout}\nmenuentry '$title' { linux $bootpath/$kernel_file $boot_options; initrd $bootpath/$initrd_file }\n# $$prefix $theme $efi_image_name $boot_directory_name\n"
	d := imagetest.Describe(t, "x86_64", "iso", `volid="LIVE" kernelcmdline="quiet it's"`, `<bootloader name="grub2" timeout="7" grub_template="menu.template"/>`)
	d.FS = fstest.MapFS{"menu.template": {Data: []byte(template)}}
	d.BootloaderTheme = "nice"
	r := imagetest.Request(t, nil, "iso", "", "")
	s, err := newSettings(d, r.Repro)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.fillTemplate(grub.Settings(s.title, s.typ), "boot/grub2")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"search --no-floppy --file --set=root /boot/" + s.id + "\nset timeout=7\n", "menuentry 'Test VM' { linux /boot/x86_64/loader/linux root=live:CDLABEL=LIVE rd.live.image quiet it\\'s; initrd /boot/x86_64/loader/initrd }",
		"# $prefix nice bootx64.efi grub2\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the menu lacks %q:\n%s", want, got)
		}
	}
	d.FS = fstest.MapFS{"menu.template": {Data: []byte("$wrong")}}
	if _, err = newSettings(d, r.Repro); err == nil || !strings.Contains(err.Error(), "no variable wrong") || !strings.Contains(err.Error(), "config.xml:") {
		t.Errorf("error is %v", err)
	}
	d.FS = fstest.MapFS{}
	if _, err := newSettings(d, r.Repro); err == nil || !strings.Contains(err.Error(), "config.xml:") {
		t.Errorf("error is %v", err)
	}
}
