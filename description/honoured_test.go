package description

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"testing"
)

// usedFields returns, for each name that is selected from a value anywhere in
// the rooms that obey descriptions, the folders where it is.
func usedFields(t *testing.T) map[string][]string {
	t.Helper()
	used := map[string]map[string]bool{}
	files := token.NewFileSet()
	for _, room := range []string{"imagetypes", "rootfs", "stack", "stash", "system"} {
		err := filepath.WalkDir(filepath.Join("..", room), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			dir := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../")
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if used[s.Sel.Name] == nil {
						used[s.Sel.Name] = map[string]bool{}
					}
					used[s.Sel.Name][dir] = true
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	lists := map[string][]string{}
	for name, dirs := range used {
		for dir := range dirs {
			lists[name] = append(lists[name], dir)
		}
		sort.Strings(lists[name])
	}
	return lists
}

// modelRules are the structs of the model with the rules that they are read by.
var modelRules = []struct {
	model any
	rule  *elementRule
}{
	{User{}, userRule}, {Repository{}, repositoryRule}, {SigningKey{}, ruleOf(repositoryRule, "source", "signing")},
	{Package{}, ruleOf(packagesRule, "package")}, {Archive{}, ruleOf(packagesRule, "archive")}, {File{}, ruleOf(packagesRule, "file")},
	{CollectionModule{}, ruleOf(packagesRule, "collectionModule")}, {Type{}, typeRule}, {Bootloader{}, bootloaderRule},
	{SecureLinux{}, ruleOf(bootloaderRule, "securelinux")}, {OEMConfig{}, oemConfigRule}, {Partition{}, ruleOf(partitionsRule, "partition")},
	{SystemDisk{}, systemDiskRule}, {Volume{}, ruleOf(systemDiskRule, "volume")}, {Machine{}, machineRule}, {VMDisk{}, ruleOf(machineRule, "vmdisk")},
	{VMDVD{}, ruleOf(machineRule, "vmdvd")}, {VMNIC{}, ruleOf(machineRule, "vmnic")}, {VagrantConfig{}, vagrantConfigRule},
	{ContainerConfig{}, containerConfigRule}, {History{}, ruleOf(containerConfigRule, "history")}, {InnerContainers{}, containersRule},
	{InnerContainer{}, ruleOf(containersRule, "container")}, {Image{}, nil}, {RPMSettings{}, preferencesRule}, {Packages{}, nil}, {PackageSet{}, packagesRule},
	{Strip{}, stripRule}, {Size{}, sizeRule}, {InitrdModules{}, initrdRule}, {NameValue{}, nil},
}

// builtTypes are the image types of which package imagetypes has a builder.
func builtTypes(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "imagetypes", "imagetypes.go"))
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, m := range regexp.MustCompile(`(?m)^\t\t\{"([a-z0-9.]+)", "[a-z]+", `).FindAllStringSubmatch(string(data), -1) {
		types = append(types, m[1])
	}
	if len(types) < 10 || !contains(types, "oem") {
		t.Fatalf("the table of image types has %v", types)
	}
	return types
}

// resolvedHere are fields of the model that need no reader elsewhere, with the
// reason.
var resolvedHere = map[string]string{
	"Type.Primary":           "chooses the type",
	"SystemDisk.PreferLVM":   "chooses the volume management",
	"Image.SchemaVersion":    "is for show",
	"Image.Kind":             "is for show",
	"Image.License":          "is about the description",
	"Image.FS":               "is where the files are",
	"Image.Warnings":         "is what this is about",
	"PackageSet.PatternType": "is PlusRecommended as a word",
	"Type.LUKSFormatOptions": "goes with luks, which is refused",
	"Type.VolumeGroup":       "goes with LVM, which is refused",
	"Volume.SizeType":        "goes with LVM, which is refused",
	"Volume.FullSize":        "goes with LVM, which is refused",
	"Type.InstallMedia":      "goes with installation media, which are refused",
	"InitrdModules.UEFI":     "comes from an attribute that the table calls idle",
	"Type.InnerContainers":   "comes from an element that the table calls idle",
	"Image.ShowLicense":      "comes from an element that the table calls idle",
	"Image.Strip":            "comes from an element that the table calls idle",
	"Packages.SystemFiles":   "comes from packages of which a warning says that they do nothing",
	"Bootloader.ShimOptions": "comes from an element that the table calls idle", "Bootloader.InstallOptions": "the same", "Bootloader.ConfigOptions": "the same",
	"Type.SystemDisk": "is what VolumeManagement and Volumes are made of",
}

// TestEverySettingIsObeyedOrSaysSo looks for fields of the model that nothing
// outside of this package reads: the table must say why, so that who uses the
// setting is warned, or a builder must refuse what the setting belongs to. What
// the table calls idle must not be read.
func TestEverySettingIsObeyedOrSaysSo(t *testing.T) {
	used, built := usedFields(t), builtTypes(t)
	for _, m := range modelRules {
		model := reflect.TypeOf(m.model)
		for i := range model.NumField() {
			f := model.Field(i)
			name, option, _ := strings.Cut(f.Tag.Get("kiwi"), ",")
			if !f.IsExported() || f.Anonymous || resolvedHere[model.Name()+"."+f.Name] != "" {
				continue
			}
			rules := []effect{}
			types := ""
			if m.rule != nil {
				rules = append(rules, m.rule.effect)
				types = m.rule.Types
				if c := m.rule.child(viewName(f)); c != nil {
					rules = append(rules, c.Rule.effect)
				}
				if a := m.rule.attr(name); a != nil && option != "child" {
					rules = append(rules, a.effect)
					types = a.Types
				}
			}
			checkObeyed(t, model.Name()+"."+f.Name, used[f.Name], built, types, rules)
		}
	}
}

// checkObeyed compares who reads a field with what the table says of it.
func checkObeyed(t *testing.T, field string, readers, built []string, types string, rules []effect) {
	t.Helper()
	idle, atBoot, refused := false, false, false
	for _, r := range rules {
		idle = idle || r.Idle != ""
		atBoot = atBoot || r.AtBoot
		refused = refused || r.Needs != nil && r.Needs.Refused
		types = cmp.Or(r.For, types)
	}
	possible := types == ""
	for _, name := range strings.Fields(types) {
		possible = possible || contains(built, name)
	}
	_, name, _ := strings.Cut(field, ".")
	switch {
	case len(readers) == 0 && !idle && !atBoot && !refused && possible:
		t.Errorf("%s is obeyed nowhere: obey it, or say in the table why it is idle", field)
	case len(readers) > 0 && idle && !contains(ambiguous, name):
		t.Errorf("%s is read in %v, and the table says that it is idle", field, readers)
	}
}

// ambiguous are names of fields that other things than the model have too.
var ambiguous = []string{"Boot", "Name", "Type", "Path", "Mode", "ID", "Device", "Size", "Initrd", "Containers", "Source", "Tag", "UEFI", "License", "Delete", "Backend", "Add", "Set", "Omit"}

// TestWarnings resolves a description whose settings do nothing.
func TestWarnings(t *testing.T) {
	doc := loadString(t, small("x", `<drivers><file name="a"/></drivers><strip type="libs"><file name="b"/></strip>
<preferences><packagemanager>apt</packagemanager><rpm-excludedocs>false</rpm-excludedocs><rpm-locale-filtering>true</rpm-locale-filtering>
<type image="oem" filesystem="ext4" squashfscompression="xz" target_removable="true" luks_version="luks2" ramonly="false" installprovidefailsafe="false">
<oemconfig><oem-recovery>true</oem-recovery><oem-reboot>true</oem-reboot><oem-resize-once>true</oem-resize-once></oemconfig></type>
<type image="oci" fsmountoptions="x"/></preferences>
<packages type="image"><product name="p"/><package name="q" bootinclude="true" arch="s390x"/></packages><packages type="oci"><product name="q"/></packages>`))
	for image, want := range map[string][]string{
		"oem": {
			"<strip> has no effect", "<rpm-locale-filtering> has no effect: it works only with the package manager zypper, dnf4, dnf5 or microdnf",
			"attribute squashfscompression", "attribute target_removable", "attribute luks_version", "attribute installprovidefailsafe",
			"<oem-recovery>", "<oem-reboot>", "<product>",
		},
		"oci": {"<strip>", "<rpm-locale-filtering>", "attribute fsmountoptions of <type> has no effect: the image type oci has no use for it", "<product>", "<product>"},
	} {
		img, err := doc.Resolve(Selection{Type: image, Arch: "x86_64"})
		if err != nil {
			t.Fatal(err)
		}
		if len(img.Warnings) != len(want) {
			t.Errorf("%s: %d warnings, want %d:\n%v", image, len(img.Warnings), len(want), img.Warnings)
			continue
		}
		for i, w := range img.Warnings {
			if !strings.Contains(w.Text, want[i]) || w.Pos.IsZero() || w.Hint == "" {
				t.Errorf("%s: warning %v, want %q", image, w, want[i])
			}
		}
	}
}
