package disk

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

const (
	oneGiB  = `<size unit="G">1</size>`
	machine = `<machine memory="2048" min_memory="1024" max_memory="4096" ncpus="2" min_cpu="1" max_cpu="4" guestOS="debian12-64" HWversion="14" ovftype="vmware">
<vmconfig-entry>mks.enable3d = "FALSE"</vmconfig-entry><vmdisk id="0" controller="pvscsi"/><vmdvd controller="ide" id="1"/>
<vmnic driver="vmxnet3" interface="0" mode="nat"/><vmnic driver="e1000" interface="1" mac="98:90:96:a0:3c:58" mode="bridged"/></machine>`
)

// builtAll builds a disk of the small tree and returns its results, by the end of their names.
func builtAll(t *testing.T, attributes, content string) (dir string, names []string) {
	t.Helper()
	r := request(t, withHostGrub(t, smallTree(t)), attributes, content)
	return r.Dir, allResults(t, r)
}

func allResults(t *testing.T, r *image.Request) []string {
	t.Helper()
	if err := (Builder{}).Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	results, err := Builder{}.Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(r.Dir)
	if err != nil || len(entries) != len(results) {
		t.Errorf("%d results, but %v lie there: %v", len(results), entries, err)
	}
	var names []string
	keys := map[string]bool{}
	for _, a := range results {
		if keys[a.Key] {
			t.Errorf("two results have the key %s", a.Key)
		}
		keys[a.Key] = true
		names = append(names, a.File)
	}
	return names
}

// rawDisk builds the same disk without a format.
func rawDisk(t *testing.T, content string) string {
	t.Helper()
	dir, names := builtAll(t, `filesystem="ext4" firmware="efi"`, content)
	return filepath.Join(dir, names[0])
}

// unpacked lets tar unpack a package and returns the directory and the names in their order.
func unpacked(t *testing.T, file, option string) (string, []string) {
	t.Helper()
	dir := t.TempDir()
	testenv.Run(t, "tar", option, file, "-C", dir)
	return dir, strings.Fields(testenv.Run(t, "tar", "-tf", file))
}

func TestOVA(t *testing.T) {
	testenv.NeedPrograms(t, "tar", "qemu-img", "sha256sum", "xmllint")
	dir, names := builtAll(t, `filesystem="ext4" firmware="efi" format="ova"`, oneGiB+machine)
	base := "Test-VM.x86_64-1.2.3"
	if diff := cmp.Diff([]string{base + ".ova"}, names); diff != "" {
		t.Fatal(diff)
	}
	inside, list := unpacked(t, filepath.Join(dir, names[0]), "-xf")
	if diff := cmp.Diff([]string{base + ".ovf", base + ".mf", base + "-disk1.vmdk"}, list); diff != "" {
		t.Error(diff)
	}
	vmdk := filepath.Join(inside, base+"-disk1.vmdk")
	if info := testenv.Run(t, "qemu-img", "info", vmdk); !strings.Contains(info, "streamOptimized") {
		t.Errorf("qemu-img says\n%s", info)
	}
	testenv.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", rawDisk(t, oneGiB), vmdk)
	manifest, err := os.ReadFile(filepath.Join(inside, base+".mf"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(manifest)) {
		name, sum, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "SHA256("), ")= ")
		if out := testenv.Run(t, "sha256sum", filepath.Join(inside, name)); !strings.HasPrefix(out, sum+" ") {
			t.Errorf("the manifest has %s for %s, sha256sum %s", sum, name, out)
		}
	}
	ovf := filepath.Join(inside, base+".ovf")
	testenv.Run(t, "xmllint", "--noout", ovf)
	text, err := os.ReadFile(ovf)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(vmdk)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Replace(string(text), fmt.Sprintf(`ovf:size="%d"`, st.Size()), `ovf:size="SIZE"`, 1) // it depends on this machine's GRUB
	golden := filepath.Join("testdata", "machine.ovf")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the description differs from %s; UPDATE_GOLDEN=1 writes it anew\n%s", golden, diff)
	}
	// What an importer looks for, as another reader of XML sees it.
	for path, want := range map[string]string{
		`//*[local-name()="Item"][*[local-name()="ResourceType"]="4"][not(@*)]/*[local-name()="VirtualQuantity"]`:                        "2048",
		`//*[local-name()="Item"][*[local-name()="ResourceType"]="4"][@*[local-name()="bound"]="max"]/*[local-name()="VirtualQuantity"]`: "4096",
		`//*[local-name()="Item"][*[local-name()="ResourceType"]="3"][@*[local-name()="bound"]="min"]/*[local-name()="VirtualQuantity"]`: "1",
		`//*[local-name()="Item"][*[local-name()="ResourceType"]="6"]/*[local-name()="ResourceSubType"]`:                                 "VirtualSCSI",
		`//*[local-name()="Item"][*[local-name()="ResourceType"]="17"]/*[local-name()="Parent"]`:                                         "3",
		`//*[local-name()="Item"][*[local-name()="ResourceType"]="10"][2]/*[local-name()="Address"]`:                                     "98:90:96:a0:3c:58",
		`//*[local-name()="VirtualSystemType"]`:                                "vmx-14",
		`//*[local-name()="Disk"]/@*[local-name()="capacity"]`:                 fmt.Sprint(1 << 30),
		`//*[local-name()="OperatingSystemSection"]/@*[local-name()="osType"]`: "debian12_64Guest",
	} {
		if got := strings.TrimSpace(testenv.Run(t, "xmllint", "--xpath", "string("+path+")", ovf)); got != want {
			t.Errorf("%s is %q, not %q", path, got, want)
		}
	}
}

func TestVagrant(t *testing.T) {
	testenv.NeedPrograms(t, "tar", "gzip", "qemu-img")
	dir, names := builtAll(t, `filesystem="ext4" firmware="efi" format="vagrant"`,
		oneGiB+`<machine memory="768" ncpus="2"/><vagrantconfig provider="libvirt" virtualsize="20" boxname="team/box"/><vagrantconfig provider="virtualbox" virtualsize="20" virtualbox_guest_additions_present="true"/>`)
	raw := rawDisk(t, oneGiB)
	if diff := cmp.Diff([]string{"Test-VM.x86_64-1.2.3.vagrant.libvirt.box", "Test-VM.x86_64-1.2.3.vagrant.virtualbox.box"}, names); diff != "" {
		t.Fatal(diff)
	}
	for i, c := range []struct {
		list     []string
		format   string
		metadata map[string]any
		has, not string
	}{
		{[]string{"metadata.json", "info.json", "Vagrantfile", "box.img"}, "qcow2", map[string]any{"provider": "libvirt", "format": "qcow2", "virtual_size": 20.0}, "machine.memory = 768\n", "--firmware"},
		{[]string{"metadata.json", "info.json", "Vagrantfile", "box.ovf", "box.vmdk"}, "vmdk", map[string]any{"provider": "virtualbox"}, "config.vm.base_mac = \"080027", "synced_folder"},
	} {
		testenv.Run(t, "gzip", "-t", filepath.Join(dir, names[i]))
		inside, list := unpacked(t, filepath.Join(dir, names[i]), "-xzf")
		if diff := cmp.Diff(c.list, list); diff != "" {
			t.Error(diff)
		}
		disk := filepath.Join(inside, c.list[len(c.list)-1])
		testenv.Run(t, "qemu-img", "check", disk)
		testenv.Run(t, "qemu-img", "compare", "-f", "raw", "-F", c.format, raw, disk)
		var metadata, info map[string]any
		for name, into := range map[string]*map[string]any{"metadata.json": &metadata, "info.json": &info} {
			data, err := os.ReadFile(filepath.Join(inside, name))
			if err != nil || json.Unmarshal(data, into) != nil {
				t.Errorf("%s: %s, %v", name, data, err)
			}
		}
		if diff := cmp.Diff(c.metadata, metadata); diff != "" {
			t.Error(diff)
		}
		if want := []string{"team/box", "Test-VM"}[i]; info["name"] != want {
			t.Errorf("info.json is %v", info)
		}
		vagrantfile, err := os.ReadFile(filepath.Join(inside, "Vagrantfile"))
		if text := string(vagrantfile); err != nil || !strings.Contains(text, c.has) || strings.Contains(text, c.not) {
			t.Errorf("Vagrantfile is %s, %v", text, err)
		}
	}
}

// TestVagrantOwn has the description's own Vagrantfile, and a disk as large as the box says.
func TestVagrantOwn(t *testing.T) {
	testenv.NeedPrograms(t, "tar", "qemu-img")
	r := request(t, withHostGrub(t, smallTree(t)), `filesystem="ext4" firmware="efi" format="vagrant"`, `<vagrantconfig provider="libvirt" virtualsize="3" embedded_vagrantfile="files/Vagrantfile"/>`)
	r.Description.FS = fstest.MapFS{"files/Vagrantfile": {Data: []byte("own\n")}}
	name := filepath.Join(r.Dir, allResults(t, r)[0])
	if out := testenv.Run(t, "tar", "-xzOf", name, "Vagrantfile"); out != "own\n" {
		t.Errorf("the Vagrantfile is %q", out)
	}
	inside, _ := unpacked(t, name, "-xzf")
	if out := testenv.Run(t, "qemu-img", "info", filepath.Join(inside, "box.img")); !strings.Contains(out, "virtual size: 3 GiB") {
		t.Errorf("qemu-img says\n%s", out)
	}
}

// TestGCE has a disk of whole GiB under the name that the cloud wants.
func TestGCE(t *testing.T) {
	testenv.NeedPrograms(t, "tar", "sgdisk", "cmp")
	dir, names := builtAll(t, `filesystem="ext4" firmware="efi" format="gce" gcelicense="https://example.org/licence"`, "")
	if diff := cmp.Diff([]string{"Test-VM.x86_64-1.2.3.tar.gz"}, names); diff != "" {
		t.Fatal(diff)
	}
	inside, list := unpacked(t, filepath.Join(dir, names[0]), "-xSzf")
	if diff := cmp.Diff([]string{"disk.raw", "manifest.json"}, list); diff != "" {
		t.Error(diff)
	}
	disk := filepath.Join(inside, "disk.raw")
	if out := testenv.Run(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	testenv.Run(t, "cmp", disk, rawDisk(t, oneGiB))
}

func TestGuestNames(t *testing.T) {
	for name, want := range map[string]string{
		"debian10-64": "debian10_64Guest", "otherlinux-64": "otherLinux64Guest", "otherlinux": "otherLinuxGuest", "other5xlinux-64": "other5xLinux64Guest", "ubuntu-64": "ubuntu64Guest", "sles15_64Guest": "sles15_64Guest",
	} {
		if got := ovfGuest(name); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
}

func TestRefusedProducts(t *testing.T) {
	for _, c := range []struct{ attributes, content, want string }{
		{`format="vagrant"`, "", "needs a vagrantconfig"},
		{`format="vagrant"`, `<vagrantconfig provider="libvirt" virtualsize="3"/><vagrantconfig provider="libvirt" virtualsize="4"/>`, "two boxes for libvirt"},
		{`format="vagrant"`, `<size unit="G">4</size><vagrantconfig provider="libvirt" virtualsize="3"/>`, "make it at least 4"},
		{`format="ova"`, `<machine ovftype="powervm"/>`, "use vmware"},
		{`format="ova"`, `<machine><vmdisk diskmode="monolithicSparse"/></machine>`, "use streamOptimized"},
		{`format="gce" formatoptions="a=b"`, "", "it has no options"},
	} {
		_, _, err := designOf(t, request(t, smallTree(t), `filesystem="ext4" firmware="efi" `+c.attributes, c.content))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: error %v lacks %q", c.attributes, c.content, err, c.want)
		}
	}
}

// TestFormatsThatABundleCompresses has KIWI's choice for each format: by itself, and with bundle.compress in its configuration.
func TestFormatsThatABundleCompresses(t *testing.T) {
	yes, no := true, false
	const box = `<vagrantconfig provider="libvirt" virtualsize="20"/>`
	for format, want := range map[string][3]bool{ // not said, yes, no
		"vmdk": {true, true, false}, "vdi": {true, true, false}, "vhd": {true, true, false}, "vhd-fixed": {true, true, false}, "vhdx": {true, true, false},
		"qcow2": {false, true, false}, "ova": {false, true, false}, "gce": {}, "vagrant": {},
	} {
		content := ""
		if format == "vagrant" {
			content = box
		}
		r := request(t, smallTree(t), `filesystem="ext4" format="`+format+`"`, content)
		d, _, err := designOf(t, r)
		if err != nil {
			t.Fatal(err)
		}
		for i, wish := range []*bool{nil, &yes, &no} {
			r.BundleCompress = wish
			if got := d.results[0].compress(r); got != want[i] {
				t.Errorf("%s, wish %d: %t", format, i, got)
			}
		}
	}
}

// TestVMDKInSeveralFiles has kinds of VMDK that only qemu-img writes.
func TestVMDKInSeveralFiles(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img")
	raw := rawDisk(t, oneGiB)
	for mode, want := range map[string]int{"monolithicFlat": 3, "twoGbMaxExtentSparse": 3, "monolithicSparse": 2, "streamOptimized": 2} {
		dir, names := builtAll(t, `filesystem="ext4" firmware="efi" format="vmdk"`, oneGiB+`<machine><vmdisk controller="lsilogic" id="0" diskmode="`+mode+`"/></machine>`)
		if len(names) != want || !strings.HasSuffix(names[0], ".vmdk") || !strings.HasSuffix(names[len(names)-1], ".vmx") {
			t.Errorf("%s: results are %v", mode, names)
		}
		testenv.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", raw, filepath.Join(dir, names[0]))
		if info := testenv.Run(t, "qemu-img", "info", filepath.Join(dir, names[0])); !strings.Contains(info, mode) {
			t.Errorf("%s: qemu-img says\n%s", mode, info)
		}
	}
}
