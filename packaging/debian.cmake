# debian.cmake: `cpack` in the build folder makes three packages, split as Debian splits a library, since a machine that only
# serves needs neither the tool nor headers:
#   libtamis0      the shared library, named by its SONAME, so that a later one may stand beside it
#   libtamis-dev   header, link name, libtamis.a, CMake and pkg-config files; of the very version of libtamis0
#   tamis          the tool, which has the library inside, with templates, specs, manual and completions
# What they depend on is found by dpkg-shlibdeps. A build with TAMIS_STATIC_DEPS has that inside and depends on the C library
# alone; its packages are for one's own machines, as the licences of what is inside do not go along.
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "tamis maintainers <maintainers@tamis.invalid>" CACHE STRING "Maintainer of the packages")
get_target_property(so_version tamis_shared SOVERSION)

# ---- what Debian wants beside the files that every installation has
string(TIMESTAMP today "%a, %d %b %Y 00:00:00 +0000" UTC)
configure_file(debian-changelog.in changelog @ONLY)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/gen/tamis.1)
foreach(page ${PROJECT_SOURCE_DIR}/gen/tamis.1 ${CMAKE_CURRENT_BINARY_DIR}/changelog)
  get_filename_component(name ${page} NAME)
  execute_process(COMMAND ${TAMIS_GZIP} -9nc ${page} OUTPUT_FILE ${CMAKE_CURRENT_BINARY_DIR}/${name}.gz
    COMMAND_ERROR_IS_FATAL ANY)
endforeach()
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tamis.1.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
  COMPONENT debian_tool EXCLUDE_FROM_ALL)
install(FILES completion/_tamis DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions
  COMPONENT debian_tool EXCLUDE_FROM_ALL)

# ---- the packages
# debian_package(component name section description): a component, with what Debian wants beside it, as a package.
function(debian_package component name section description)
  string(TOUPPER ${component} COMPONENT)
  install(FILES debian-copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} RENAME copyright
    COMPONENT debian_${component} EXCLUDE_FROM_ALL)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/changelog.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name}
    COMPONENT debian_${component} EXCLUDE_FROM_ALL)
  set(CPACK_COMPONENT_${COMPONENT}_GROUP package_${component} PARENT_SCOPE)
  set(CPACK_COMPONENT_DEBIAN_${COMPONENT}_GROUP package_${component} PARENT_SCOPE)
  set(CPACK_DEBIAN_PACKAGE_${COMPONENT}_PACKAGE_NAME ${name} PARENT_SCOPE)
  set(CPACK_DEBIAN_PACKAGE_${COMPONENT}_PACKAGE_SECTION ${section} PARENT_SCOPE)
  set(CPACK_DEBIAN_PACKAGE_${COMPONENT}_DESCRIPTION ${description} PARENT_SCOPE)
endfunction()

set(about "Token-sparse attention keeps the prompt tokens that matter to a layer's
heads, and attends among those alone.")
debian_package(runtime libtamis${so_version} libs "token-sparse attention kernels: library
${about}
This is the library that programs run with: on NVIDIA GPUs through their
driver, or on the CPU.")
debian_package(development libtamis-dev libdevel "token-sparse attention kernels: library, to build with
${about}
These are the header, the static library, and what CMake and pkg-config need
to find them.")
debian_package(tool tamis devel "token-sparse attention kernels: generator and tuner
${about}
This is the tool that generates, compiles, tunes and checks the kernels for a
model and a GPU. Compiling takes NVRTC, of the CUDA toolkit.")
set(CPACK_DEBIAN_PACKAGE_DEVELOPMENT_PACKAGE_DEPENDS "libtamis${so_version} (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_PACKAGE_DEVELOPMENT_PACKAGE_SUGGESTS "libsqlite3-dev, libxxhash-dev, pkg-config") # for libtamis.a

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME tamis)
set(CPACK_PACKAGE_VENDOR tamis)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/debian-folders.cmake)
set(CPACK_COMPONENTS_ALL runtime development tool debian_runtime debian_development debian_tool)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
include(CPack)
