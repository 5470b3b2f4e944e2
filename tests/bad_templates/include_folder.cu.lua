$ -- expect: include_folder.cu.lua:2: #include wants a quoted file name
  #  include ".."
