package description

import (
	"cmp"
	"strings"
	"testing"
	"testing/fstest"
)

// aCheck is an image that one check finds something in.
type aCheck struct {
	check, parts, want string
	arch               string            // x86_64 when empty
	name               string            // x when empty
	files              map[string]string // beside the description
}

// oem writes a disk with attributes and what stands inside its type.
func oem(attrs, inside string) string {
	return `<preferences><type image="oem" filesystem="ext4" ` + attrs + `>` + inside + `</type></preferences>`
}

// containerType writes a container's configuration.
func containerType(attrs, inside string) string {
	return `<preferences><type image="oci"><containerconfig ` + attrs + `>` + inside + `</containerconfig></type></preferences>`
}

// fromPackages are packages for an empty root tree and a repository for them.
const fromPackages = `<packages type="bootstrap"><package name="filesystem"/></packages><repository><source path="https://example.org"/></repository>`

var everyCheck = []aCheck{
	{check: "volume_label_used_with_lvm", parts: `<preferences><type image="oem" filesystem="btrfs"><systemdisk><volume name="home" label="H"/></systemdisk></type></preferences>`, want: "volume home has a label"},
	{check: "swap_name_used_with_lvm", parts: oem("", `<oemconfig><oem-swapname>S</oem-swapname></oemconfig>`), want: "a swap partition has no name"},
	{check: "xen_uniquely_setup_as_server_or_guest", parts: oem(`xen_server="true"`, `<machine xen_loader="pygrub"/>`), want: "a Xen server and a guest"},
	{check: "efi_mode_for_disk_overlay_correctly_setup", parts: oem(`overlayroot="true" firmware="uefi"`, ""), want: "can't boot with Secure Boot"},
	{check: "architecture_supports_iso_firmware_setup", parts: `<preferences><type image="iso" firmware="bios"/></preferences>`, want: "aarch64 have no BIOS", arch: "aarch64"},
	{check: "firmware_fits_architecture", parts: oem(`firmware="ofw"`, ""), want: "is of POWER"},
	{check: "firmware_fits_architecture", parts: oem(`firmware="efi"`, ""), want: "the image is for s390x", arch: "s390x"},
	{check: "bootloader_fits_machine", parts: oem(`firmware="bios"`, `<bootloader name="systemd_boot"/>`), want: "starts from EFI only"},
	{check: "bootloader_fits_machine", parts: oem("", `<bootloader name="grub2_s390x_emu"/>`), want: "is for s390"},
	{check: "bootloader_fits_machine", parts: oem("", `<bootloader name="isolinux"/>`), want: "the image is a disk"},
	{check: "appx_naming_conventions_valid", parts: `<preferences><type image="appx" metadata_path="meta"><containerconfig name="x"><history application_id="-" launcher="sh"/></containerconfig></type></preferences>`,
		want: "the launcher", files: map[string]string{"meta/x": ""}},
	{check: "appx_naming_conventions_valid", parts: `<preferences><type image="appx" metadata_path="meta"><containerconfig name="x"/></type></preferences>`,
		want: `the launcher ""`, files: map[string]string{"meta/AppxManifest.xml": ""}},
	{check: "appx_naming_conventions_valid", parts: `<preferences><type image="appx" metadata_path="meta"/></preferences>`,
		want: `the launcher ""`, files: map[string]string{"meta/AppxManifest.xml": ""}},
	{check: "volume_setup_defines_multiple_fullsize_volumes", parts: oem("", `<systemdisk><volume name="a" size="all"/><volume name="b" freespace="all"/></systemdisk>`), want: "both take the rest"},
	{check: "volume_setup_has_no_root_definition", parts: oem("", `<systemdisk><volume name="/" size="1G"/></systemdisk>`), want: "stands for the root"},
	{check: "volume_setup_defines_reserved_labels", parts: oem("", `<systemdisk><volume name="a" label="ROOT"/></systemdisk>`), want: "the label ROOT"},
	{check: "volume_names_valid", parts: oem("", `<systemdisk><volume name="a" mountpoint="/srv"/><volume name="a" mountpoint="/opt"/></systemdisk>`), want: "two volumes are named a"},
	{check: "volume_names_valid", parts: oem("", `<systemdisk><volume name="/srv/"/><volume name="b" mountpoint="srv"/></systemdisk>`), want: "two volumes hold /srv"},
	{check: "volume_names_valid", parts: oem("", `<systemdisk><volume name="a b"/></systemdisk>`), want: `named "a b"`},
	{check: "volume_names_valid", parts: oem("", `<systemdisk name="-vg"/>`), want: `no volume group named "-vg"`},
	{check: "partition_setup_valid", parts: oem("", `<partitions><partition name="a" size="1"/><partition name="a" size="1"/></partitions>`), want: "two partitions are named a"},
	{check: "partition_setup_valid", parts: oem("", `<partitions><partition name="a" size="0"/></partitions>`), want: "has no room"},
	{check: "partition_setup_valid", parts: oem("", `<partitions><partition name="a" size="1" mountpoint="/var"/></partitions>`), want: "no file system to be mounted"},
	{check: "partition_setup_valid", parts: oem("", `<partitions><partition name="a" size="1" mountpoint="/" filesystem="xfs"/></partitions>`), want: "the root is mounted at / already"},
	{check: "partition_setup_valid", parts: oem(`spare_part="1" spare_part_mountpoint="/var"`, `<partitions><partition name="a" size="1" mountpoint="/var" filesystem="xfs"/></partitions>`), want: "the spare partition is mounted at /var already"},
	{check: "partition_setup_valid", parts: oem("", `<partitions><partition name="a" size="1" mountpoint="../x" filesystem="xfs"/></partitions>`), want: "can't be mounted"},
	{check: "partition_count_fits_table", parts: oem("", `<partitions><partition name="a" size="1" clone="3"/></partitions>`), want: "the disk has 5 partitions"},
	{check: "filesystem_labels_fit", parts: oem(`rootfs_label="much-too-long-for-it"`, ""), want: "has 20 bytes"},
	{check: "filesystem_labels_fit", parts: oem("", `<partitions><partition name="configuration" size="9" filesystem="fat16"/></partitions>`), want: "fat16 has room for 11"},
	{check: "disk_size_fits_content", parts: oem(`firmware="efi" efipartsize="100"`, `<size unit="G">1</size><partitions><partition name="a" size="1G"/></partitions>`), want: "room for 1024 MiB, and its partitions and volumes ask for 1124"},
	{check: "partuuid_persistency_type_used_with_mbr", parts: oem(`devicepersistency="by-partuuid" firmware="bios"`, ""), want: "needs a GPT"},
	{check: "luksformat_options_valid", parts: oem(`luks="x"`, `<luksformat><option name="--chiper" value="aes"/></luksformat>`), want: `did you mean "--cipher"?`},
	{check: "format_options_valid", parts: oem(`formatoptions="a=b"`, ""), want: "no format"},
	{check: "image_name_length", name: strings.Repeat("x", 180), want: "begin with 193 bytes"},
	{check: "image_version_provided", parts: `<preferences><version>a/b</version></preferences>`, want: "the image has no version"},
	{check: "image_type_unique", parts: `<preferences><type image="oci"/><type image="oci"/></preferences>`, want: "is there twice"},
	{check: "repository_settings_consistent", parts: `<repository alias="a"><source path="/a"/></repository><repository alias="a" username="u"><source path="/b"/></repository>`, want: "two repositories have the alias a"},
	{check: "repository_type_fits_package_manager", parts: `<preferences><packagemanager>apt</packagemanager></preferences><repository type="rpm-md"><source path="/a"/></repository>`, want: "apt can't read"},
	{check: "image_include_repos_publicly_resolvable", parts: `<repository imageinclude="true"><source path="dir:///a"/></repository>`, want: "the image can't reach dir:///a"},
	{check: "packages_installable", parts: `<packages type="image"><package name="a b"/><package name="c"/><ignore name="c"/></packages>`, want: "is wanted and ignored"},
	{check: "repositories_configured", parts: `<packages type="bootstrap"><package name="filesystem"/></packages>`, want: "no repository to take them from"},
	{check: "dracut_module_for_disk_oem_in_package_list", parts: oem("", `<oemconfig><oem-resize>true</oem-resize></oemconfig>`) + fromPackages, want: "the disk is to grow"},
	{check: "dracut_module_for_oem_install_in_package_list", parts: oem(`installpxe="true" installiso="true"`, `<oemconfig><oem-resize>false</oem-resize></oemconfig>`) + fromPackages, want: "an installation medium"},
	{check: "dracut_module_for_disk_overlay_in_package_list", parts: oem(`overlayroot="true"`, `<oemconfig><oem-resize>false</oem-resize></oemconfig>`) + fromPackages, want: "the root is to be an overlay"},
	{check: "dracut_module_for_live_iso_in_package_list", parts: `<preferences><type image="iso"/></preferences>` + fromPackages, want: "a live system"},
	{check: "script_files_runnable", parts: "", want: "config.sh:1:1: the script has line ends of Windows", files: map[string]string{"config.sh": "#!/bin/sh\r\nexit\r\n"}},
	{check: "script_files_runnable", parts: "", want: "the script is empty", files: map[string]string{"images.sh": ""}},
	{check: "script_files_runnable", parts: "", want: "a byte order mark", files: map[string]string{"disk.sh": "\xef\xbb\xbf#!/bin/sh\n"}},
	{check: "script_files_runnable", parts: oem(`editbootconfig="edit"`, ""), want: "edit: the script's first line names no program", files: map[string]string{"edit": "#!bash\n"}},
	{check: "archive_files_readable", parts: `<packages type="image"><archive name="a.tar"/></packages>`, want: "a.tar is not a tar archive", files: map[string]string{"a.tar": "no"}},
	{check: "description_files_exist", parts: `<packages type="image"><archive name="../a.tar"/></packages>`, want: "is not inside the description's directory"},
	{check: "container_names_valid", parts: containerType(`name="Web"`, ""), want: `the part "Web"`},
	{check: "container_names_valid", parts: containerType(`name="reg.example.org:5000/web" tag="a b" additionalnames=":-,other:1"`, ""), want: `the tag "a b"`},
	{check: "container_settings_valid", parts: containerType(`name="web"`, `<expose><port number="70000/udp"/></expose>`), want: "there is no port 70000/udp"},
	{check: "container_settings_valid", parts: containerType(`name="web" workingdir="srv"`, `<environment><env name="A=B" value=""/></environment>`), want: `variable "A=B"`},
	{check: "container_settings_valid", parts: containerType(`name="web"`, `<volumes><volume name="data"/></volumes>`), want: `the volume "data"`},
	{check: "container_settings_valid", parts: containerType(`name="web"`, `<volumes><volume name="/srv/.."/></volumes>`), want: `"/srv/..", can be no volume`},
	{check: "derived_from_valid", parts: `<preferences><type image="oci" derived_from=" "/></preferences>`, want: "names no container"},
	{check: "derived_from_valid", parts: `<preferences><type image="oci" derived_from="ftp://x"/></preferences>`, want: "of no known kind"},
	{check: "derived_from_valid", parts: `<preferences><type image="oci" derived_from="docker://Debian"/></preferences>`, want: `the part "Debian"`},
}

// load returns the description and the selection of an example.
func (c *aCheck) load(t *testing.T) (*Document, Selection) {
	t.Helper()
	parts := c.parts
	text := small(cmp.Or(c.name, "x"), parts)
	if c.check == "image_version_provided" {
		text = strings.Replace(text, "<version>1.0.0</version>", "<version/>", 1)
	}
	fsys := fstest.MapFS{"config.xml": {Data: []byte(text)}}
	for name, data := range c.files {
		fsys[name] = &fstest.MapFile{Data: []byte(data)}
	}
	doc, err := LoadFS(fsys, "", LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sel := Selection{Arch: c.arch, EmptyTree: true}
	if sel.Arch == "" {
		sel.Arch = "x86_64"
	}
	if _, image, ok := strings.Cut(parts, `image="`); ok {
		sel.Type, _, _ = strings.Cut(image, `"`)
	}
	return doc, sel
}

// TestEachCheck finds one mistake with each check, and not when it is switched
// off.
func TestEachCheck(t *testing.T) {
	tested := map[string]bool{"include_references_unresolvable": true} // in TestIncludeErrors
	for _, tt := range everyCheck {
		tested[tt.check] = true
		doc, sel := tt.load(t)
		_, err := doc.Resolve(sel)
		errs, ok := err.(Errors)
		if !ok || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.check, err, tt.want)
			continue
		}
		for _, e := range errs {
			if e.Check != tt.check {
				t.Errorf("%s: %s finds: %v", tt.check, e.Check, e)
			}
			if e.Pos.IsZero() {
				t.Errorf("%s: no position: %v", tt.check, e)
			}
		}
		sel.SkipChecks = []string{"check_" + tt.check}
		if _, err := doc.Resolve(sel); err != nil {
			t.Errorf("%s, switched off: %v", tt.check, err)
		}
		sel.SkipChecks = []string{AllChecks}
		if img, err := doc.Resolve(sel); err != nil || len(img.Warnings) > 1 {
			t.Errorf("%s, all switched off: %v", tt.check, err)
		}
	}
	for _, id := range []string{"user_password_format", "user_definition_valid", "locale_settings_valid", "repository_source_known"} {
		tested[id] = true // in testdata/invalid/checks.kiwi
	}
	for _, c := range Checks() {
		if c.find != nil && !tested[c.ID] {
			t.Errorf("the check %s has no test", c.ID)
		}
		if c.find == nil && c.advise == nil && c.Unneeded == "" {
			t.Errorf("the check %s finds nothing", c.ID)
		}
	}
}

func TestChecksOfPackagesNeedAnEmptyTree(t *testing.T) {
	parts := oem(`installiso="true" overlayroot="true"`, "") + `<packages type="bootstrap"><package name="filesystem"/></packages>`
	doc := loadString(t, small("x", parts))
	if _, err := doc.Resolve(Selection{Type: "oem", Arch: "x86_64"}); err != nil {
		t.Errorf("on top of a container: %v", err)
	}
	_, err := doc.Resolve(Selection{Type: "oem", Arch: "x86_64", EmptyTree: true})
	if errs, ok := err.(Errors); !ok || len(errs) != 3 {
		t.Errorf("errors %v", err)
	}
	good := oem(`installiso="true" overlayroot="true"`, "") + fromPackages + `<packages type="image">
<package name="kiwi-dracut-overlay"/><package name="kiwi-dracut-oem-dump"/></packages>`
	img, err := loadString(t, small("x", good)).Resolve(Selection{Type: "oem", Arch: "x86_64", EmptyTree: true})
	if err != nil {
		t.Fatal(err)
	}
	if text := img.Warnings.Error(); !strings.Contains(text, "no package is a kernel") || !strings.Contains(text, "does not grow to the size of its disk") {
		t.Errorf("warnings %s", text)
	}
}

func TestFilesOfAPreparedRootTree(t *testing.T) {
	c := aCheck{parts: oem(`editbootconfig="scripts/edit"`, "") + `<packages type="image"><archive name="tars/a.tar"/></packages>`,
		files: map[string]string{"edit_boot_config.sh": "#!/bin/sh\n", "a.tar": strings.Repeat("\x00", 1024)}}
	doc, sel := c.load(t)
	if _, err := doc.Resolve(sel); err != nil {
		t.Errorf("under the names that KIWI keeps: %v", err)
	}
	doc.Dir = "/description"
	if _, err := doc.Resolve(sel); err == nil {
		t.Error("a description finds files by other names than it says")
	}
}

func TestCheckNames(t *testing.T) {
	if err := CheckNames([]string{"all", "check_image_type_unique", "user_password_format"}); err != nil {
		t.Error(err)
	}
	err := CheckNames([]string{"image_type_uniq", "zzz"})
	if err == nil || !strings.Contains(err.Error(), `did you mean "image_type_unique"?`) || !strings.Contains(err.Error(), "lists them") {
		t.Errorf("error %v", err)
	}
}

func TestSignals(t *testing.T) {
	for signal, good := range map[string]bool{"SIGTERM": true, "TERM": true, "9": true, "SIGRTMIN+3": true, "term": false, "": false, "900": false} {
		if signalForm.MatchString(signal) != good {
			t.Errorf("signal %q", signal)
		}
	}
}

func TestContainerName(t *testing.T) {
	for _, name := range []string{"web", "a/b-c/d__e:1.0", "localhost/a", "reg.example.org:5000/Web"} {
		if reason := containerName(name); (reason == "") != (name != "reg.example.org:5000/Web") {
			t.Errorf("%s: %q", name, reason)
		}
	}
}

// TestMountOptionsWithoutDisk has no effect where nobody writes an /etc/fstab, and one on what btrfs compresses.
func TestMountOptionsWithoutDisk(t *testing.T) {
	for attributes, want := range map[string]bool{
		`image="ext4" fsmountoptions="noatime"`: true, `image="kis" filesystem="xfs" fsmountoptions="noatime"`: true, `image="btrfs" fsmountoptions="noatime"`: true,
		`image="btrfs" fsmountoptions="compress=zstd"`: false, `image="kis" filesystem="btrfs" fsmountoptions="compress=zstd"`: false, `image="oem" filesystem="ext4" fsmountoptions="noatime"`: false,
	} {
		text := `<image schemaversion="8.0" name="A"><description type="system"><author>A</author><contact>a@example.org</contact><specification>S</specification></description>
<preferences><version>1.0.0</version><packagemanager>apt</packagemanager><type ` + attributes + `/></preferences><packages type="image"/></image>`
		img, err := loadString(t, text).Resolve(Selection{Arch: "x86_64", SkipChecks: []string{AllChecks}})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(img.Warnings.Error(), "attribute fsmountoptions of <type> has no effect: it works only with the image type oem"); got != want {
			t.Errorf("%s: %v", attributes, img.Warnings)
		}
	}
}

// TestScreenMode says so if nobody knows the mode that vga asks for.
func TestScreenMode(t *testing.T) {
	for vga, want := range map[string]string{"0x317": "1024x768", "0x31A": "1280x1024", "791": "", "foo": ""} {
		text := `<image schemaversion="7.6" name="A"><description type="system"><author>A</author><contact>a@example.org</contact><specification>S</specification></description>
<preferences><version>1.0.0</version><packagemanager>apt</packagemanager><type image="iso" vga="` + vga + `"/></preferences><packages type="image"/></image>`
		img, err := loadString(t, text).Resolve(Selection{Arch: "x86_64", SkipChecks: []string{AllChecks}})
		if err != nil {
			t.Fatal(err)
		}
		warned := strings.Contains(img.Warnings.Error(), "attribute vga of <type> has no effect")
		if got := img.Type.GfxMode(); got != want || warned != (want == "") {
			t.Errorf("%s: mode %q, %v", vga, got, img.Warnings)
		}
	}
}
