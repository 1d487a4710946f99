package description

import (
	"strings"
	"testing"
)

// TestDiskChecks has one image for each check of a disk that testdata/invalid
// does not make.
func TestDiskChecks(t *testing.T) {
	tests := []struct {
		check, parts, want string
		arch               string
	}{
		{"volume_label_used_with_lvm", `<type image="oem" filesystem="btrfs"><systemdisk><volume name="home" label="H"/></systemdisk></type>`, "volume home has a label", "x86_64"},
		{"swap_name_used_with_lvm", `<type image="oem" filesystem="ext4"><oemconfig><oem-swapname>S</oem-swapname></oemconfig></type>`, "a swap partition has no name", "x86_64"},
		{"xen_uniquely_setup_as_server_or_guest", `<type image="oem" filesystem="ext4" xen_server="true"><machine xen_loader="pygrub"/></type>`, "a Xen server and a guest", "x86_64"},
		{"efi_mode_for_disk_overlay_correctly_setup", `<type image="oem" filesystem="ext4" overlayroot="true" firmware="uefi"/>`, "can't boot with Secure Boot", "x86_64"},
		{"architecture_supports_iso_firmware_setup", `<type image="iso" firmware="bios"/>`, "aarch64 have no BIOS", "aarch64"},
		{"appx_naming_conventions_valid", `<type image="appx" metadata_path="meta"><containerconfig name="x"><history application_id="-" launcher="sh"/></containerconfig></type>`, "the launcher", "x86_64"},
		{"volume_setup_defines_multiple_fullsize_volumes", `<type image="oem" filesystem="ext4"><systemdisk><volume name="a" size="all"/><volume name="b" freespace="all"/></systemdisk></type>`, "both take the rest", "x86_64"},
	}
	for _, tt := range tests {
		image := strings.Fields(strings.Split(tt.parts, `image="`)[1])[0]
		image = strings.TrimSuffix(image, `"`)
		doc := loadString(t, small("x", "<preferences>"+tt.parts+"</preferences>"))
		sel := Selection{Type: image, Arch: tt.arch, SkipChecks: []string{"description_files_exist"}}
		_, err := doc.Resolve(sel)
		errs, ok := err.(Errors)
		if !ok {
			t.Errorf("%s: error %v", tt.check, err)
			continue
		}
		if errs[len(errs)-1].Check != tt.check || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error of check %s: %v", tt.check, errs[len(errs)-1].Check, err)
		}
		sel.SkipChecks = append(sel.SkipChecks, tt.check)
		if _, err := doc.Resolve(sel); err != nil {
			t.Errorf("%s, switched off: %v", tt.check, err)
		}
	}
}
