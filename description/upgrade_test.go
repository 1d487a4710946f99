package description

import (
	"strings"
	"testing"
)

// anUpgrade is a part of a description before one step and after it.
type anUpgrade struct {
	from  string // the version it is written in
	parts string // inside <image>, beside what every description has
	want  string // is in the upgraded form
	gone  string // is not in it; empty: nothing to look for
	warns string // is in a warning; empty: there is none
}

const typeStart = `<preferences><type image="oem" filesystem="ext4" `

var upgradeTests = []anUpgrade{
	{"5.0", `<preferences><defaultbaseroot>x</defaultbaseroot></preferences>`, "", "defaultbaseroot", "<defaultbaseroot> has no meaning"},
	{"5.0", `<packages type="image"><package name="a"/></packages><preferences><type image="tbz" baseroot="x"/></preferences>`, "", "baseroot", "attribute baseroot"},
	{"5.1", `<preferences><type image="usb"/></preferences>`, "", `"usb"`, "the image type usb"},
	{"5.3", `<drivers type="drivers"><file name="a"/></drivers>`, "<drivers>", "", "attribute type of <drivers>"},
	{"5.4", `<preferences><boot-theme>dark</boot-theme></preferences>`, "<bootloader-theme>dark</bootloader-theme>\n        <bootsplash-theme>dark</bootsplash-theme>", "boot-theme", ""},
	{"5.5", `<users group="g"><user name="u" pwd="*"/></users>`, `<user name="u" password="*" groups="g"/>`, "pwd", ""},
	{"5.5", `<repository pwd="s" username="u"><source path="/x"/></repository>`, `password="s"`, "pwd", ""},
	{"5.6", `<packages type="image"><opensusePattern name="a"/><rhelGroup name="b"/></packages>`, `<namedCollection name="b"/>`, "opensusePattern", ""},
	{"5.7", typeStart + `syncMBR="true"/></preferences>`, "", "syncMBR", "attribute syncMBR"},
	{"5.8", typeStart + `><machine><vmdisk controller="scsi" id="0"/></machine></type></preferences>`, `controller="lsilogic"`, "scsi", ""},
	{"5.9", typeStart + `><oemconfig><oem-align-partition>true</oem-align-partition></oemconfig></type></preferences>`, "<oemconfig/>", "oem-align", "<oem-align-partition>"},
	{"6.0", `<packages type="image"><opensuseProduct name="a"/></packages>`, `<product name="a"/>`, "opensuseProduct", ""},
	{"6.1", typeStart + `/></preferences>`, `<bootloader name="grub2"/>`, "", ""},
	{"6.2", typeStart + `fsreadonly="squashfs" fsreadwrite="ext4" zfsoptions="x"/></preferences>`, "", "fsreadonly", "attribute fsreadonly"},
	{"6.2", typeStart + `><split/></type></preferences>`, "", "split", "<split> has no meaning"},
	{"6.3", `<users group="g" id="7"><user name="u" password="*"/></users>`, `groups="g"`, `id="7"`, ""},
	{"6.4", `<preferences><type image="docker" container="web"/></preferences>`, `<containerconfig name="web"/>`, "container=", ""},
	{"6.5", typeStart + `><machine domain="dom0"/></type></preferences>`, `xen_server="true"`, "domain", ""},
	{"6.5", typeStart + `><machine domain="domU"/></type></preferences>`, "<machine/>", "xen_server", ""},
	{"6.6", typeStart + `checkprebuilt="true" fsnocheck="true"/></preferences>`, "", "prebuilt", "attribute checkprebuilt"},
	{"6.6", `<repository status="fixed" prefer-license="true"><source path="/x"/></repository>`, "<repository>", "status", "attribute status"},
	{"6.6", `<packages type="image"><package name="a" replaces="b"/></packages>`, `<package name="a"/>`, "replaces", "attribute replaces"},
	{"6.6", `<preferences><defaultprebuilt>a</defaultprebuilt><defaultdestination>b</defaultdestination><defaultroot>c</defaultroot><partitioner>d</partitioner><rpm-force>true</rpm-force></preferences>`, "", "default", "<rpm-force>"},
	{"6.7", `<preferences><hwclock>utc</hwclock></preferences>`, "", "hwclock", "<hwclock>"},
	{"6.8", `<preferences><type image="iso" hybrid="true"/></preferences>`, `<type image="iso"/>`, "hybrid", "attribute hybrid"},
	{"6.8", typeStart + `><oemconfig><oem-ataraid-scan>true</oem-ataraid-scan></oemconfig></type></preferences>`, "", "ataraid", "<oem-ataraid-scan>"},
	{"6.9", `<preferences><type image="pxe"><pxedeploy><timeout>1</timeout></pxedeploy></type></preferences>`, `<type image="pxe"/>`, "pxedeploy", "<pxedeploy>"},
	{"7.0", `<repository type="yast2"><source path="/x"/></repository>`, "<repository>", "yast2", `type "yast2"`},
	{"7.0", `<repository type="rpm-dir"><source path="/x"/></repository>`, `type="rpm-dir"`, "", ""},
	{"7.1", typeStart + `bootloader="grub2" bootloader_console="serial" boottimeout="3"/></preferences>`, `<bootloader name="grub2" console="serial" timeout="3"/>`, "boottimeout", ""},
	{"7.1", typeStart + `bootloader="grub2_s390x_emu" zipl_targettype="CDL"/></preferences>`, `<bootloader name="grub2_s390x_emu" targettype="CDL"/>`, "zipl_targettype", ""},
	{"7.2", `<preferences><type image="vmx" filesystem="ext4"><oemconfig><oem-resize>true</oem-resize></oemconfig></type></preferences>`, "<oem-resize>false</oem-resize>", "vmx", ""},
	{"7.2", `<preferences><type image="vmx" filesystem="ext4"/></preferences>`, "<oem-resize>false</oem-resize>", "vmx", ""},
	{"7.3", `<preferences><packagemanager>apt-get</packagemanager></preferences>`, "<packagemanager>apt</packagemanager>", "", ""},
	{"7.3", `<preferences><packagemanager>yum</packagemanager></preferences>`, "<packagemanager>dnf4</packagemanager>", "", ""},
	{"7.4", `<preferences><type image="oci"><containerconfig name="c" additionaltags="a,b"/></type></preferences>`, `additionalnames=":a,:b"`, "additionaltags", ""},
	{"7.5", `<preferences><packagemanager>dnf</packagemanager></preferences>`, "<packagemanager>dnf4</packagemanager>", "", ""},
	{"8.0", `<repository type="rpm-dir"><source path="/x"/></repository>`, "<repository>", "rpm-dir", `type "rpm-dir"`},
	{"8.1", `<repository type="apt-deb" use_for_bootstrap="true"><source path="/x"/></repository>`, `<repository type="apt-deb">`, "use_for", "attribute use_for_bootstrap"},
	{"8.2", typeStart + `btrfs_root_is_snapshot="true"/></preferences>`, `btrfs_root_is_snapper_snapshot="true"`, "is_snapshot", ""},
	{"8.3", typeStart + `><bootloader name="grub2" console="gfxterm console"/></type></preferences>`, `output_console="gfxterm" input_console="console"`, " console=", ""},
	{"8.4", typeStart + `vga="0x317"/></preferences>`, "", "vga", "attribute vga"},
}

func TestEachUpgradeStep(t *testing.T) {
	for _, tt := range upgradeTests {
		from, err := parseVersion(tt.from)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := loadVersion(tt.from, tt.parts)
		if err != nil {
			t.Errorf("%s %s: %v", tt.from, tt.parts, err)
			continue
		}
		text := string(doc.XML())
		if !strings.Contains(text, tt.want) || tt.gone != "" && strings.Contains(text, tt.gone) {
			t.Errorf("%s %s: want %q and not %q in\n%s", tt.from, tt.parts, tt.want, tt.gone, text)
		}
		if want := `schemaversion="` + from.target().String(); !strings.Contains(text, want) || doc.Written != tt.from {
			t.Errorf("%s: no %s, written %s", tt.from, want, doc.Written)
		}
		warnings := Errors(doc.Warnings).Error()
		if tt.warns == "" && warnings != "" || !strings.Contains(warnings, tt.warns) {
			t.Errorf("%s %s: warnings %q, want %q", tt.from, tt.parts, warnings, tt.warns)
		}
		if again := loadString(t, text); string(again.XML()) != text {
			t.Errorf("%s: the upgraded form is not stable:\n%s", tt.from, again.XML())
		}
	}
	if _, err := loadVersion("6.1", `<preferences><type image="oem" filesystem="ext4"><split><temporary/></split></type></preferences>`); err == nil || !strings.Contains(err.Error(), "no longer part of the language") {
		t.Errorf("a split with content: %v", err)
	}
}

func loadVersion(schemaversion, parts string) (*Document, error) {
	return loadText(strings.Replace(small("x", parts), `"7.6"`, `"`+schemaversion+`"`, 1))
}

func TestSchemaVersions(t *testing.T) {
	for text, want := range map[string]string{
		"5.0": "", "5.9": "", "6.9": "", "7.0": "", "7.6": "", "8.0": "", "8.5": "", " 7.5 ": "",
		"4.7": "older than 5.0", "5.10": "no schema version 5.10", "7.7": "no schema version 7.7", "7.60": "no schema version", "8.6": "newer than 8.5",
		"9.0": "newer than", "7.6.1": "not of the form", "seven": "not of the form", "": "not of the form", "-1.0": "not of the form", "99999.0": "not of the form",
	} {
		_, err := loadVersion(text, "")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("version %q: error %v, want %q", text, err, want)
		}
	}
}
