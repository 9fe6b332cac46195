# Compile options shared by every target, and braid_module(): one static library per room,
# whose link dependencies are the room's line in layers.txt.
add_library(braid_options INTERFACE)
target_include_directories(braid_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
set(cxx_warnings -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor $<$<BOOL:${BRAID_WERROR}>:-Werror>)
# fmt 9 takes nvcc for a compiler without constexpr.
set(cuda_warnings -DFMT_USE_CONSTEXPR=1 -Xcompiler=-Wall,-Wextra --expt-relaxed-constexpr $<$<BOOL:${BRAID_WERROR}>:-Werror=all-warnings>)
target_compile_options(braid_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${cxx_warnings}>"
  "$<$<COMPILE_LANGUAGE:CUDA>:${cuda_warnings}>")
if(BRAID_SANITIZE)
  target_compile_options(braid_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  target_link_options(braid_options INTERFACE -fsanitize=address,undefined)
endif()

function(braid_allowed_layers room out)
  file(STRINGS ${CMAKE_SOURCE_DIR}/layers.txt lines REGEX "^${room}:")
  string(REGEX REPLACE "^${room}:[ ]*" "" line "${lines}")
  string(REPLACE " " ";" layers "${line}")
  set(${out} ${layers} PARENT_SCOPE)
endfunction()

# braid_module(core [LIBS fmt::fmt ...]): every .cpp below the calling folder.
function(braid_module room)
  cmake_parse_arguments(ARG "" "" "LIBS;EXCLUDE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  foreach(pattern ${ARG_EXCLUDE})
    list(FILTER sources EXCLUDE REGEX ${pattern})
  endforeach()
  braid_allowed_layers(${room} layers)
  set(links)
  foreach(layer ${layers})
    if(EXISTS ${CMAKE_SOURCE_DIR}/src/braid/${layer}/CMakeLists.txt)  # a room may be planned before it is built
      list(APPEND links braid_${layer})
    endif()
  endforeach()
  if(sources)
    add_library(braid_${room} STATIC ${sources})
    target_link_libraries(braid_${room} PUBLIC braid_options ${links} ${ARG_LIBS})
  else()
    add_library(braid_${room} INTERFACE)
    target_link_libraries(braid_${room} INTERFACE braid_options ${links} ${ARG_LIBS})
  endif()
endfunction()
