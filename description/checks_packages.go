package description

import (
	"strings"
)

// Checks of packages and repositories. What must be among the packages is known
// only where the root tree is made of packages alone: containers that it starts
// from may hold it.

func packageChecks() []Check {
	return []Check{
		{ID: "repositories_configured", Reason: "Packages come from repositories.", find: findRepositories},
		{ID: "repository_source_known", Reason: "A package manager can't reach a repository of an unknown kind.", find: findSources},
		{ID: "repository_settings_consistent", Reason: "Two repositories of one alias would be one, and credentials have two parts.", find: findRepositorySettings},
		{ID: "repository_type_fits_package_manager", Reason: "A package manager reads only its own kind of repository.", find: findRepositoryTypes},
		{ID: "image_include_repos_publicly_resolvable", Reason: "A repository that stays in the image must be reachable from there.", find: findIncludedRepositories},
		{ID: "packages_installable", Reason: "A package that is wanted and removed or ignored, or named with blanks, is a mistake.", find: findPackageLists},
		{ID: "kernel_in_package_list", Reason: "An image that boots has a kernel.", advise: adviseKernel},
		{ID: "dracut_module_for_disk_oem_in_package_list", Reason: "A disk grows at boot by a program of its initrd.", find: findGrowing, advise: adviseGrowing},
		{ID: "dracut_module_for_oem_install_in_package_list", Reason: "An installation medium installs by a program of its initrd.", find: findDumping},
		{ID: "dracut_module_for_disk_overlay_in_package_list", Reason: "An overlay root is set up by a program of the initrd.", find: findOverlaying},
		{ID: "dracut_module_for_live_iso_in_package_list", Reason: "A live system is set up by a program of its initrd.", find: findLiving},
		{ID: "dracut_module_versions_compatible_to_kiwi", Reason: "KIWI needs its dracut modules in certain versions.",
			Unneeded: "what the modules read has been the same in all versions that distributions have"},
		{ID: "consistent_kernel_in_boot_and_system_image", Reason: "An initrd of kiwi's own kind has a kernel of its own.",
			Unneeded: noKiwiInitrd},
		{ID: "boot_description_exists", Reason: "An initrd of kiwi's own kind has a description of its own.", Unneeded: noKiwiInitrd},
		{ID: "initrd_selection_required", Reason: "The attribute boot names an initrd of kiwi's own kind.",
			Unneeded: noKiwiInitrd + ", and a warning says that the attribute has no effect"},
		{ID: "mediacheck_installed", Reason: "KIWI runs a program to write checksums into an ISO.", Unneeded: "imgbuild writes them itself"},
		{ID: "syslinux_installed_if_isolinux_is_used", Reason: "ISOLINUX comes from the machine that builds.",
			Unneeded: "the builder of ISOs says which program it lacks before it begins"},
		{ID: "container_tool_chain_installed", Reason: "KIWI makes containers with umoci and skopeo.", Unneeded: "imgbuild writes containers itself"},
	}
}

// fromPackages reports whether the root tree is made of packages alone.
func (img *Image) fromPackages() bool {
	p := &img.Packages
	return img.selection.EmptyTree && len(img.Type.DerivedFrom) == 0 && (len(p.Bootstrap.Packages) > 0 || p.BootstrapPackage != "")
}

// hasPackage reports whether one of the packages is to be installed.
func (img *Image) hasPackage(names ...string) bool {
	for _, set := range []PackageSet{img.Packages.Bootstrap, img.Packages.System} {
		for _, p := range set.Packages {
			if contains(names, p.Name) {
				return true
			}
		}
	}
	return false
}

func findRepositories(img *Image) (errs Errors) {
	if !img.fromPackages() {
		return nil
	}
	for _, r := range img.Repositories {
		if !r.ImageOnly {
			return nil
		}
	}
	errs.add(img.Pos, `add <repository><source path="https://..."/></repository>, or --add-repo`, "there are packages to install and no repository to take them from")
	return errs
}

// sourceSchemes are the kinds of repository sources.
var sourceSchemes = []string{"http://", "https://", "ftp://", "file:", "dir:", "iso:", "obs://", "obsrepositories:/", "this://", "/"}

func findSources(img *Image) (errs Errors) {
next:
	for _, r := range img.Repositories {
		for _, scheme := range sourceSchemes {
			if strings.HasPrefix(r.Source, scheme) {
				continue next
			}
		}
		errs.add(r.SourcePos, "begin with one of "+strings.Join(sourceSchemes, " "), "the source %q of a repository is of no known kind", withoutCredentials(r.Source))
	}
	return errs
}

func findRepositorySettings(img *Image) (errs Errors) {
	seen := map[string]bool{}
	for _, r := range img.Repositories {
		if r.Alias != "" && seen[r.Alias] {
			errs.add(r.At("alias"), "choose another alias", "two repositories have the alias %s", r.Alias)
		}
		seen[r.Alias] = true
		for attr, other := range map[string]string{"username": "password", "password": "username"} {
			if r.Has(attr) && !r.Has(other) {
				errs.add(r.At(attr), "add "+other+"=\"...\"", "attribute %s of a repository has no %s beside it", attr, other)
			}
		}
		if r.Type == "apt-deb" && r.Distribution == "" && len(r.Components) > 0 {
			errs.add(r.At("components"), `add distribution="..."`, "a flat repository has no components")
		}
	}
	return errs.sorted()
}

func findRepositoryTypes(img *Image) (errs Errors) {
	if !img.Has("packagemanager") {
		return nil // KIWI takes dnf4 then; the root tree knows better
	}
	deb := img.PackageManager == "apt"
	rpm := contains([]string{"zypper", "dnf4", "dnf5", "microdnf"}, img.PackageManager)
	for _, r := range img.Repositories {
		switch {
		case deb && strings.HasPrefix(r.Type, "rpm-"):
			errs.add(r.At("type"), `write type="apt-deb", or use another <packagemanager>`, "apt can't read a repository of type %s", r.Type)
		case rpm && contains([]string{"apt-deb", "deb-dir"}, r.Type):
			errs.add(r.At("type"), `write type="rpm-md", or <packagemanager>apt</packagemanager>`, "%s can't read a repository of type %s", img.PackageManager, r.Type)
		}
	}
	return errs
}

// findIncludedRepositories looks for repositories that the image is to have
// and that only the building machine can reach. A local path that is set up in
// the image alone is the image's own.
func findIncludedRepositories(img *Image) (errs Errors) {
	for _, r := range img.Repositories {
		if !r.ImageInclude {
			continue
		}
		for _, scheme := range []string{"dir:", "file:", "iso:", "this://", "obsrepositories:/", "/"} {
			if strings.HasPrefix(r.Source, scheme) {
				errs.add(r.At("imageinclude"), "remove it, or use an address of the network", "the image can't reach %s, where the repository is", withoutCredentials(r.Source))
				break
			}
		}
	}
	return errs
}

func findPackageLists(img *Image) (errs Errors) {
	p := &img.Packages
	ignored := map[string]bool{}
	for _, set := range []PackageSet{p.Bootstrap, p.System} {
		for _, i := range set.Ignore {
			ignored[i.Name] = true
		}
	}
	for _, list := range [][]Package{p.Bootstrap.Packages, p.System.Packages, p.Bootstrap.Collections, p.System.Collections, p.Delete, p.Uninstall} {
		for _, pkg := range list {
			switch {
			case strings.TrimSpace(pkg.Name) == "":
				errs.add(pkg.At("name"), "name a package", "a package has no name")
			case strings.ContainsAny(pkg.Name, " \t\n"):
				errs.add(pkg.At("name"), "write an element for each", "the name %q of a package holds blanks", pkg.Name)
			case strings.HasPrefix(pkg.Name, "-"):
				errs.add(pkg.At("name"), "correct it", "the name %q of a package begins with '-'", pkg.Name)
			}
		}
	}
	for _, pkg := range p.System.Packages {
		if ignored[pkg.Name] && pkg.Has("name") {
			errs.add(pkg.At("name"), "remove one of them", "the package %s is wanted and ignored", pkg.Name)
		}
	}
	return errs
}

func adviseKernel(img *Image) (errs Errors) {
	t := &img.Type
	boots := contains([]string{"oem", "iso", "kis", "pxe"}, t.Image) && t.InitrdSystem != "none"
	sets := []PackageSet{img.Packages.Bootstrap, img.Packages.System}
	if !boots || !img.fromPackages() {
		return nil
	}
	for _, set := range sets {
		if len(set.Collections)+len(set.Products)+len(set.Archives) > 0 {
			return nil // one of them may bring it
		}
		for _, p := range set.Packages {
			if strings.Contains(p.Name, "kernel") || strings.HasPrefix(p.Name, "linux") {
				return nil
			}
		}
	}
	errs.add(t.Pos, "add one, such as linux-image-amd64, kernel-default or kernel-core", "the image type %s boots, and no package is a kernel", t.Image)
	return errs
}

// moduleCheck reports that none of the packages is there that bring a module
// of the initrd.
func moduleCheck(img *Image, o Origin, attr, what string, packages ...string) (errs Errors) {
	if !img.fromPackages() || img.Type.InitrdSystem != "dracut" || img.hasPackage(packages...) {
		return nil
	}
	errs.add(o.At(attr), "add the package "+strings.Join(packages, " or "), "%s, and no package brings the program for it", what)
	return errs
}

// growers are packages that grow a root at boot: KIWI's dracut module under the
// names of SUSE and Fedora and of Debian, and others for the same.
var growers = []string{"dracut-kiwi-oem-repart", "kiwi-dracut-oem-repart", "cloud-initramfs-growroot", "dracut-modules-growroot", "cloud-init"}

func findGrowing(img *Image) Errors {
	if img.Type.Image != "oem" || img.Type.OEM.Resize != True {
		return nil
	}
	return moduleCheck(img, img.Type.OEM.Origin, "oem-resize", "the disk is to grow at boot", growers...)
}

// adviseGrowing warns where the disk would grow only because nothing else is
// said.
func adviseGrowing(img *Image) Errors {
	if img.Type.Image != "oem" || img.Type.OEM.Resize != Unset {
		return nil
	}
	errs := moduleCheck(img, img.Type.Origin, "image", "the root does not grow to the size of its disk at boot, as it does by default", growers...)
	for _, e := range errs {
		e.Hint += ", or write <oem-resize>false</oem-resize>"
	}
	return errs
}

func findDumping(img *Image) Errors {
	t := &img.Type
	attr := ""
	for name, asked := range map[string]bool{"installiso": t.InstallISO, "installstick": t.InstallStick, "installpxe": t.InstallPXE} {
		if asked && (attr == "" || name < attr) {
			attr = name
		}
	}
	if t.Image != "oem" || attr == "" {
		return nil
	}
	return moduleCheck(img, t.Origin, attr, "an installation medium is to be made", "dracut-kiwi-oem-dump", "kiwi-dracut-oem-dump")
}

func findOverlaying(img *Image) Errors {
	if img.Type.Image != "oem" || !img.Type.OverlayRoot {
		return nil
	}
	return moduleCheck(img, img.Type.Origin, "overlayroot", "the root is to be an overlay", "dracut-kiwi-overlay", "kiwi-dracut-overlay")
}

func findLiving(img *Image) Errors {
	t := &img.Type
	if t.Image != "iso" || t.Flags == "dmsquash" { // whose module is dracut's own
		return nil
	}
	return moduleCheck(img, t.Origin, "image", "a live system is to be made", "dracut-kiwi-live", "kiwi-dracut-live")
}
