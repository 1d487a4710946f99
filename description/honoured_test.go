package description

import (
	"bytes"
	"cmp"
	"encoding/json"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// usedFields returns, for each field of the model that is selected anywhere in the rooms that obey descriptions, as Struct.Field, the packages where it
// is. What the compiler knows of types tells fields of the same name apart.
func usedFields(t *testing.T) map[string][]string {
	t.Helper()
	rooms := []string{"imagetypes", "rootfs", "stack", "stash", "system"}
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Export,GoFiles,Dir,DepOnly"}
	for _, room := range rooms {
		args = append(args, "../"+room+"/...")
	}
	list := exec.Command("go", args...)
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.Output()
	switch {
	case err != nil && os.Getuid() != 0: // compiled tests may run where there is no go, or none of the modules
		t.Skipf("not possible here: go list: %v", err)
	case err != nil:
		t.Fatalf("go list: %v", err)
	}
	type goPackage struct {
		ImportPath, Export, Dir string
		GoFiles                 []string
		DepOnly                 bool
	}
	exports := map[string]string{}
	var own []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if !p.DepOnly {
			own = append(own, p)
		}
	}
	files := token.NewFileSet()
	known := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	lists := map[string][]string{}
	for _, p := range own {
		for field := range selected(t, files, known, p.ImportPath, p.Dir, p.GoFiles) {
			lists[field] = append(lists[field], strings.TrimPrefix(p.ImportPath, "github.com/imgbuild/imgbuild/"))
		}
	}
	return lists
}

// selected returns the fields of this package's structs that a package selects.
func selected(t *testing.T, files *token.FileSet, known types.Importer, path, dir string, names []string) map[string]bool {
	t.Helper()
	var parsed []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(files, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
	if _, err := (&types.Config{Importer: known}).Check(path, files, parsed, info); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, s := range info.Selections {
		if s.Kind() != types.FieldVal {
			continue
		}
		// The struct is where the last step of the way begins: fields of embedded structs belong to those.
		at := s.Recv()
		for i, step := range s.Index() {
			if pointer, ok := at.Underlying().(*types.Pointer); ok {
				at = pointer.Elem()
			}
			named, _ := at.(*types.Named)
			structure, ok := at.Underlying().(*types.Struct)
			if !ok {
				break
			}
			field := structure.Field(step)
			if named != nil && i == len(s.Index())-1 && named.Obj().Pkg() != nil && strings.HasSuffix(named.Obj().Pkg().Path(), "imgbuild/description") {
				used[named.Obj().Name()+"."+field.Name()] = true
			}
			at = field.Type()
		}
	}
	return used
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

// builtTypes are the image types of which package imagetypes has a builder, with the folder of that.
func builtTypes(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "imagetypes", "imagetypes.go"))
	if err != nil {
		t.Fatal(err)
	}
	builders := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t\t\{"([a-z0-9.]+)", "([a-z]+)", `).FindAllStringSubmatch(string(data), -1) {
		builders[m[1]] = "imagetypes/" + m[2]
	}
	if len(builders) < 10 || builders["oem"] == "" {
		t.Fatalf("the table of image types has %v", builders)
	}
	return builders
}

// shared are rooms whose readers work for all image types, and packages that several builders have in common.
var shared = regexp.MustCompile(`^(rootfs|stack|stash|system|imagetypes$|imagetypes/(grub|image|filesystem|results|xen|xen/guest)$)`)

// resolvedHere are fields of the model that need no reader elsewhere, with the
// reason.
var resolvedHere = map[string]string{
	"Type.Primary":           "chooses the type",
	"Type.VGA":               "is GfxMode",
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
	"Volume.Size":            "goes with LVM, which is refused",
	"Volume.Mountpoint":      "is RealPath, but for the root's",
	"Image.File":             "is for show",
	"ContainerConfig.Name":   "is asked for by the language, also for packages that have no use for it",
	"Type.InstallMedia":      "goes with installation media, which are refused",
	"InitrdModules.UEFI":     "comes from an attribute that the table calls idle",
	"Type.InnerContainers":   "comes from an element that the table calls idle",
	"Image.ShowLicense":      "comes from an element that the table calls idle",
	"Image.Strip":            "comes from an element that the table calls idle",
	"Packages.SystemFiles":   "comes from packages of which a warning says that they do nothing",
	"Bootloader.ShimOptions": "comes from an element that the table calls idle", "Bootloader.InstallOptions": "the same", "Bootloader.ConfigOptions": "the same",
	"Type.SystemDisk": "is what VolumeManagement and Volumes are made of",
}

// oddNames are elements whose fields have other names.
var oddNames = map[string]string{"ContainerConfig.Command": "subcommand", "ContainerConfig.Env": "environment"}

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
				if c := m.rule.child(cmp.Or(oddNames[model.Name()+"."+f.Name], viewName(f))); c != nil {
					rules = append(rules, c.Rule.effect)
				}
				if name == "" {
					name = strings.ToLower(f.Name)
				}
				if a := m.rule.attr(name); a != nil && option != "child" {
					rules = append(rules, a.effect)
					types = cmp.Or(a.Types, types)
				}
			}
			checkObeyed(t, model.Name()+"."+f.Name, used[model.Name()+"."+f.Name], built, types, rules)
		}
	}
}

// checkObeyed compares who reads a field with what the table says of it.
func checkObeyed(t *testing.T, field string, readers []string, builders map[string]string, types string, rules []effect) {
	t.Helper()
	idle, atBoot, refused := false, false, false
	for _, r := range rules {
		idle = idle || r.Idle != ""
		atBoot = atBoot || r.AtBoot
		refused = refused || r.Needs != nil && r.Needs.Refused
		types = cmp.Or(r.For, types)
	}
	possible := types == ""
	everywhere := slices.ContainsFunc(readers, shared.MatchString)
	for _, name := range strings.Fields(types) {
		builder := builders[name]
		possible = possible || builder != ""
		if builder != "" && len(readers) > 0 && !everywhere && !refused && !slices.ContainsFunc(readers, func(r string) bool { return r == builder || strings.HasPrefix(r, builder+"/") }) {
			t.Errorf("%s is for the image type %s too, but only %v read it", field, name, readers)
		}
	}
	switch {
	case len(readers) == 0 && !idle && !atBoot && !refused && possible:
		t.Errorf("%s is obeyed nowhere: obey it, or say in the table why it is idle", field)
	case len(readers) > 0 && idle:
		t.Errorf("%s is read in %v, and the table says that it is idle", field, readers)
	}
}

// TestWarnings resolves a description whose settings do nothing.
func TestWarnings(t *testing.T) {
	doc := loadString(t, small("x", `<drivers><file name="a"/></drivers><strip type="libs"><file name="b"/></strip>
<preferences><packagemanager>apt</packagemanager><rpm-excludedocs>false</rpm-excludedocs><rpm-locale-filtering>true</rpm-locale-filtering>
<type image="oem" filesystem="ext4" squashfscompression="xz" target_removable="true" luks_version="luks2" ramonly="false" installprovidefailsafe="false">
<oemconfig><oem-recovery>true</oem-recovery><oem-reboot>true</oem-reboot><oem-resize-once>true</oem-resize-once></oemconfig></type>
<type image="oci" fsmountoptions="x"><containerconfig name="c"><history author="a" application_id="App"/></containerconfig></type>
<type image="wsl"><containerconfig name="c"><history author="a"/></containerconfig></type></preferences>
<packages type="image"><product name="p"/><package name="q" bootinclude="true" arch="s390x"/></packages><packages type="oci"><product name="q"/></packages>`))
	for image, want := range map[string][]string{
		"oem": {
			"<strip> has no effect", "<rpm-locale-filtering> has no effect: it works only with the package manager zypper, dnf4, dnf5 or microdnf",
			"attribute squashfscompression", "attribute target_removable", "attribute luks_version", "attribute installprovidefailsafe",
			"<oem-recovery>", "<oem-reboot>", "<product>",
		},
		"oci": {"<strip>", "<rpm-locale-filtering>", "attribute fsmountoptions of <type> has no effect: the image type oci has no use for it", "attribute application_id of <history>", "<product>", "<product>"},
		"wsl": {"<strip>", "<rpm-locale-filtering>", "<history> has no effect: the image type wsl has no use for it", "<product>"},
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
